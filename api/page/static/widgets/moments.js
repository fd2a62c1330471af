// Moments that say how long ago they are, and keep saying it right.

import { h, setText } from "../lib/dom.js";
import { ago } from "../lib/format.js";

const EVERY_MS = 1_000;

// "3 min ago", with the whole time as its tooltip.
export function moment(time, at) {
  if (at === null || at === undefined) return "–";
  return h("time", { datetime: at, title: `${time.full(at)} (${time.zone})`, "data-moment": at }, ago(at));
}

// Keeps every moment below an element right; returns the function that ends it.
export function keepMoments(root) {
  const timer = setInterval(() => {
    if (document.hidden) return;
    for (const each of root.querySelectorAll("[data-moment]")) setText(each, ago(each.dataset.moment));
  }, EVERY_MS);
  return () => clearInterval(timer);
}
