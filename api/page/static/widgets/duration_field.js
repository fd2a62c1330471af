// A span of time as a number and its unit; the API takes seconds.

import { field } from "../lib/components.js";
import { h, setText } from "../lib/dom.js";
import { choice } from "./forms.js";

const UNITS = [[1, "seconds"], [60, "minutes"], [3600, "hours"], [86_400, "days"]];

// A field (see components.js) whose `seconds` are what was typed, null for nothing.
export function durationField(label, { name, seconds, hint }) {
  const unit = unitOf(seconds);
  const control = h("input", { type: "number", min: 0, step: "any", value: seconds === null ? "" : seconds / unit, inputMode: "decimal" });
  const made = field(label, control, { name, hint });
  const units = choice(UNITS, unit, { "aria-label": `${label}: unit` });
  const pair = h("div", { class: "pair" });
  control.replaceWith(pair);
  pair.append(control, units);
  const setLabel = (text) => {
    setText(made.element.querySelector("label"), text);
    units.setAttribute("aria-label", `${text}: unit`);
  };
  return { ...made, setLabel, get seconds() { return secondsOf(control.value, units.value); } };
}

// The largest unit that gives a whole number.
function unitOf(seconds) {
  return UNITS.map(([size]) => size).reverse().find((size) => seconds && seconds % size === 0) ?? 60;
}

function secondsOf(text, unit) {
  return text.trim() === "" ? null : Number(text) * Number(unit);
}
