// A payload as it came, as text and as bytes, read when somebody wants to see it.

import { copyable, dialog, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { bytes as size } from "../../lib/format.js";
import { segments } from "../../widgets/forms.js";
import { bytesOf, hexDump } from "./hex.js";

const SHOWN_BYTES_MAX = 16 * 1024;

// Resolves when it was seen.
export async function showPayload(app, { id }) {
  try {
    const letter = await app.api.get(`/v1/rejected/${id}`);
    await dialog(`Dead letter ${id}: ${letter.reason}`, (close) => [
      h("p", {}, letter.detail),
      payload(letter, bytesOf(letter.payload_base64)),
      h("div", { class: "actions" }, h("button", { type: "button", class: "main", onclick: () => close() }, "Close")),
    ]);
  } catch (problem) {
    toast(problem.detail ?? String(problem), { kind: "bad" });
  }
}

function payload({ payload: text }, bytes) {
  const place = h("div", {});
  const forms = { text: () => textOf(text, bytes), hex: () => hexDump(bytes, SHOWN_BYTES_MAX) };
  const show = (form) => fill(place, copyable(forms[form]()));
  const first = text === null ? "hex" : "text";
  show(first);
  const cut = bytes.length > SHOWN_BYTES_MAX && h("p", { class: "hint" }, `The first ${size(SHOWN_BYTES_MAX)} of ${size(bytes.length)}.`);
  return h("div", { class: "payload" }, segments("Form of the payload", [["text", "Text"], ["hex", "Hex"]], first, show), place, cut);
}

function textOf(text, bytes) {
  if (text === null) return "It is not text (not UTF-8, or with NUL): see its bytes.";
  return bytes.length > SHOWN_BYTES_MAX ? text.slice(0, SHOWN_BYTES_MAX) : text;
}
