// Forms that send something to the API, and show its sentence at the field that it concerns.

import { dialog, showProblem } from "../lib/components.js";
import { fill, h } from "../lib/dom.js";
import { button } from "./pieces.js";

// A form of fields (see components.js). `send()` makes the request; `done(answer)` is called after it succeeded.
// `others` are buttons beside the one that sends.
export function sendingForm({ fields, content, action, danger = false, others = [], send, done }) {
  const message = h("p", { class: "error", role: "alert", hidden: true });
  const button = h("button", { type: "submit", class: danger ? "danger" : "main" }, action);
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    message.hidden = true;
    try {
      done(await send());
    } catch (problem) {
      if (problem.status === undefined) throw problem;
      showProblem(problem, fields, message);
    } finally {
      button.disabled = false;
    }
  };
  return h("form", { class: "form", noValidate: true, onsubmit: submit },
    content ?? fields.map(({ element }) => element), message, h("div", { class: "actions" }, others, button));
}

// The same in a dialog, which closes with the answer; null if it was left.
export function formDialog(title, { intro = null, ...form }) {
  return dialog(title, (close) => [
    intro && h("p", {}, intro),
    sendingForm({ ...form, done: close, others: [button("Cancel", () => close(null))] }),
  ]);
}

// A select of [value, text] pairs.
export function choice(pairs, chosen, props) {
  return h("select", props, pairs.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
}

// Buttons of which one is pressed.
export function segments(label, pairs, chosen, pick) {
  const buttons = pairs.map(([value, text]) => button(text, () => press(value)));
  const show = (value) => pairs.forEach(([each], place) => buttons[place].setAttribute("aria-pressed", String(each === value)));
  const press = (value) => {
    show(value);
    pick(value);
  };
  show(chosen);
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

// A box with its text beside it.
export function checkbox(text, props) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", ...props }), h("span", {}, text));
}

// A group of fields with a heading.
export function group(title, ...content) {
  return fill(h("fieldset", {}), h("legend", {}, title), content);
}

// What was typed, null for nothing.
export function textOf(field) {
  return field.control.value.trim() || null;
}

// The number that was typed; null for nothing. Other texts go to the API as they are, which says what is wrong.
export function numberOf(field) {
  const text = field.control.value.trim();
  return text === "" || Number.isNaN(Number(text)) ? text || null : Number(text);
}
