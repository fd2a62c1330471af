// A payload as it came, as text and as bytes, read when somebody wants to see it.

import { fill, h } from "../../lib/dom.js";
import { bytes as size } from "../../lib/format.js";
import { bytesOf, hexDump } from "./hex.js";

const SHOWN_BYTES_MAX = 16 * 1024;  // More of it is in the file.

// A button that opens and closes the payload below it.
export function payloadButton(app, row, text) {
  const place = h("div", { id: `payload-${row.id}` });
  const button = h("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": place.id, "aria-label": `Payload of dead letter ${row.id}, ${text}` }, text);
  button.addEventListener("click", async () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    fill(place, open && (await payload(app, row.id)));
  });
  return [button, place];
}

async function payload(app, id) {
  try {
    const letter = await app.api.get(`/v1/rejected/${id}`);
    return shown(letter, bytesOf(letter.payload_base64));
  } catch (problem) {
    return h("p", { class: "error", role: "alert" }, problem.detail ?? String(problem));
  }
}

function shown({ payload: text }, bytes) {
  const block = h("pre", { tabIndex: 0 });
  const show = (form) => { block.textContent = form === "text" ? textOf(text, bytes) : hexDump(bytes, SHOWN_BYTES_MAX); };
  const tab = (form, name) => h("button", { type: "button", "aria-pressed": "false", onclick: (event) => press(event.currentTarget, form) }, name);
  const tabs = h("div", { class: "segments", role: "group", "aria-label": "Form of the payload" }, tab("text", "Text"), tab("hex", "Hex"));
  const press = (pressed, form) => {
    for (const each of tabs.children) each.setAttribute("aria-pressed", String(each === pressed));
    show(form);
  };
  press(tabs.children[text === null ? 1 : 0], text === null ? "hex" : "text");
  const cut = bytes.length > SHOWN_BYTES_MAX && h("p", { class: "hint" }, `The first ${size(SHOWN_BYTES_MAX)} of ${size(bytes.length)}.`);
  return h("div", { class: "payload" }, tabs, block, cut);
}

function textOf(text, bytes) {
  if (text === null) return "It is not text (not UTF-8, or with NUL): see its bytes.";
  return bytes.length > SHOWN_BYTES_MAX ? text.slice(0, SHOWN_BYTES_MAX) : text;
}
