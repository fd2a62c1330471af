// What several views show alike: tables, empty states, pills, toasts, dialogs and fields of forms.

import { fill, h, setAttribute } from "./dom.js";
import { stateName } from "./format.js";

const TOASTS_MAX = 3;
const TOAST_MS = 8_000;

// A state of a device, an incident or a severity: its shape and text say it, its colour only underlines.
export function pill(state, text = stateName(state)) {
  return h("span", { class: "pill", "data-state": state }, h("i", { class: `dot ${state}`, "aria-hidden": "true" }), text);
}

// `columns`: [{ name, class?, cell: (row) => node or text, wide? }]; the name of a column of buttons is empty. On a
// phone each row becomes a card, in which `wide` cells take a line of their own. The caption is read by screen readers.
export function table(caption, columns, rows) {
  const head = columns.map(({ name, class: kind }) => h("th", { scope: "col", class: kind }, name || h("span", { class: "unseen" }, "Actions")));
  const body = rows.map((row) => tableRow(columns, row));
  return h("div", { class: "card" },
    h("table", { class: "cards" }, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

export function tableRow(columns, row) {
  return h("tr", {}, columns.map((column) => cellOf(column, row)));
}

function cellOf({ name, class: kind, cell, wide }, row) {
  return h("td", { class: [kind, wide && "wide"].filter(Boolean).join(" "), "data-name": name }, h("div", {}, cell(row)));
}

// What to do when there is nothing to show. `commands` are lines to copy.
export function emptyState(title, text, commands = []) {
  const lines = commands.map(({ label, line }) => h("div", { class: "command" }, label && h("p", {}, label), copyable(line)));
  return h("section", { class: "empty" }, h("h2", {}, title), h("p", {}, text), lines);
}

// A text with a button that copies it.
export function copyable(text) {
  const button = h("button", { type: "button", onclick: () => copy(text, button) }, "Copy");
  return h("div", { class: "copyable" }, h("pre", { tabIndex: 0 }, h("code", {}, text)), button);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Without HTTPS a browser has no clipboard: select the text instead.
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2_000);
}

// A short message in the live region. Of many, the newest three stay and the others are counted.
let unseen = 0;
export function toast(text, { kind = "info", link, linkText = "Show" } = {}) {
  const place = document.getElementById("toasts");
  const close = () => { item.remove(); if (!place.querySelector(".toast")) clearUnseen(place); };
  const item = h("div", { class: `toast ${kind}` }, h("p", {}, text, link && " ", link && h("a", { href: link }, linkText)),
    h("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: close }, "✕"));
  const shown = place.querySelectorAll(".toast");
  if (shown.length >= TOASTS_MAX) {
    shown[0].remove();
    unseen += 1;
    moreToasts(place);
  }
  place.append(item);
  setTimeout(close, TOAST_MS);
}

function moreToasts(place) {
  const line = place.querySelector(".more") ?? h("p", { class: "more" });
  line.textContent = `${unseen.toLocaleString("en")} more`;
  place.prepend(line);
}

function clearUnseen(place) {
  unseen = 0;
  place.querySelector(".more")?.remove();
}

// A modal dialog. `build(close)` returns its content; the promise has what was given to `close`, or null for Escape.
// The focus returns to where it was.
export function dialog(title, build) {
  return new Promise((resolve) => {
    const id = `dialog-${Math.random().toString(36).slice(2)}`;
    let result = null;
    const close = (value = null) => { result = value; box.close(); };
    const box = h("dialog", { "aria-labelledby": id });
    box.addEventListener("close", () => { box.remove(); resolve(result); });
    fill(box, h("h2", { id }, title), build(close));
    document.body.append(box);
    box.showModal();
  });
}

// Ask before something that cannot be undone. True if it shall be done.
export async function confirmed(title, text, action) {
  const answer = await dialog(title, (close) => [
    h("p", {}, text),
    h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => close(null), autofocus: true }, "Cancel"),
      h("button", { type: "button", class: "danger", onclick: () => close(true) }, action)),
  ]);
  return answer === true;
}

// A control with its label, a hint and a place for its error: { element, control, value, setError(text) }.
let fields = 0;
export function field(label, control, { hint = "", name = control.name } = {}) {
  const id = control.id || `field-${(fields += 1)}`;
  control.id = id;
  if (name) control.name = name;
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  const note = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
  const described = [hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(" ");
  control.setAttribute("aria-describedby", described);
  const setError = (text) => {
    error.textContent = text ?? "";
    error.hidden = !text;
    setAttribute(control, "aria-invalid", text ? "true" : null);
  };
  control.addEventListener("input", () => setError(null));
  const element = h("div", { class: "field" }, h("label", { for: id, htmlFor: id }, label), control, note, error);
  return { element, control, name, get value() { return control.value; }, setError };
}

// Show a Problem at the fields that it names, the rest in the form's own message.
export function showProblem(problem, formFields, message) {
  const left = [];
  for (const { field: path, message: text } of problem.errors ?? []) {
    const found = formFields.find((each) => each.name === String(path).split(/[.[]/)[0]);
    if (found) found.setError(text);
    else left.push(path ? `${path}: ${text}` : text);
  }
  const named = formFields.find((each) => new RegExp(`^${each.name}\\b`).test(problem.detail ?? ""));
  if (!problem.errors?.length && named) named.setError(problem.detail);
  else if (left.length || !problem.errors?.length) left.unshift(...(problem.errors?.length ? [] : [problem.detail ?? problem.message]));
  message.textContent = left.join(" ");
  message.hidden = !left.length;
  formFields.find((each) => each.control.getAttribute("aria-invalid") === "true")?.control.focus();
}

// In place of what does not exist. `text` may say what that is.
export function nothingHere(text = "") {
  return h("section", { class: "empty" }, h("h1", {}, "There is nothing here"), text && h("p", {}, text), h("a", { href: "#/fleet" }, "To the fleet"));
}

// A message in place of a view that cannot be shown.
export function failure(problem, retry) {
  if (problem.status === 404) return nothingHere(problem.detail);
  return h("section", { class: "empty", role: "alert" }, h("h2", {}, "This cannot be shown now"), h("p", {}, problem.detail ?? String(problem)),
    retry && h("button", { type: "button", onclick: retry }, "Try again"));
}
