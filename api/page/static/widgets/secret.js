// A secret, shown once.

import { copyable, dialog } from "../lib/components.js";
import { h } from "../lib/dom.js";

// Resolves when somebody has seen it. `lines`: more that helps to use it, as { label, line }.
export function showSecret(title, secret, lines = []) {
  return dialog(title, (close) => [
    h("p", {}, h("b", {}, "Copy it now: it is never shown again.")),
    h("div", { class: "secret" }, copyable(secret)),
    lines.map(({ label, line }) => [h("p", { class: "soft" }, label), copyable(line)]),
    h("div", { class: "actions" }, h("button", { type: "button", class: "main", onclick: () => close(true) }, "I have copied it")),
  ]);
}
