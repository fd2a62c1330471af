// Small pieces that most views are made of.

import { h } from "../lib/dom.js";

// A button; `label` says more than its text to a screen reader, `kind` is main, danger, quiet or small.
export function button(text, onclick, { kind, label } = {}) {
  return h("button", { type: "button", class: kind, "aria-label": label, onclick }, text);
}

export function tag(text) {
  return h("span", { class: "tag" }, text);
}

export function soft(...content) {
  return h("span", { class: "soft" }, content);
}

export function deviceLink(id) {
  return h("a", { href: `#/devices/${encodeURIComponent(id)}`, title: id }, id);
}

// The head of a view, with its tools at the other side.
export function viewHead(title, ...tools) {
  return h("div", { class: "head" }, h("h1", {}, title), h("span", { class: "grow" }), tools);
}

// The head of a part of a view.
export function partHead(title, ...tools) {
  return h("div", { class: "head sub" }, h("h2", {}, title), h("span", { class: "grow" }), tools);
}

// Names with their values; a pair that is false is left out.
export function factList(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// A row below a list, for what shows more of it.
export function moreRow(...content) {
  return h("div", { class: "row more" }, content);
}

export function textInput(props) {
  return h("input", { type: "text", autocomplete: "off", spellcheck: false, ...props });
}
