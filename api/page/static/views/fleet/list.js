// The list, of which only the rows on the screen exist. It scrolls with the page; its rows have one height.

import { fill, h, setAttribute } from "../../lib/dom.js";
import { Row } from "./row.js";

const OVERSCAN = 6;  // Rows beyond the screen.
const HEIGHTS = { wide: 46, narrow: 84 };  // In px, as in styles/fleet.css.
const NARROW = "(max-width: 760px)";

export class List {
  // `onVisible(devices)` after each drawing, `onHold(held)` when somebody begins or ends to point at the list.
  constructor({ unit, onVisible, onHold }) {
    Object.assign(this, { unit, onVisible, onHold, rows: new Map(), devices: [], columns: [], isHeld: false });
    this.narrow = matchMedia(NARROW);
    this.above = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
    this.below = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
    this.body = h("tbody", {}, this.above, this.below);
    this.head = h("tr");
    this.table = h("table", { class: "fleet-list" }, h("caption", { class: "unseen" }, "Devices"), h("thead", {}, this.head), this.body);
    this.element = h("div", { class: "card" }, this.table);
    this.ended = new AbortController();
    this.listen(this.ended.signal);
  }

  destroy() {
    this.ended.abort();
    cancelAnimationFrame(this.frame);
  }

  listen(signal) {
    for (const type of ["scroll", "resize"]) addEventListener(type, () => this.drawSoon(), { signal, passive: true });
    this.body.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.hold(true), { signal });
    this.body.addEventListener("pointerleave", () => this.hold(false), { signal });
    this.body.addEventListener("click", (event) => this.follow(event), { signal });
  }

  hold(isHeld) {
    if (this.isHeld === isHeld) return;
    this.isHeld = isHeld;
    this.onHold(isHeld);
  }

  // A click anywhere in a row goes to its device; the link is for the keyboard and for new tabs.
  follow(event) {
    if (event.target.closest("a") || event.ctrlKey || event.metaKey || event.shiftKey || !getSelection().isCollapsed) return;
    event.target.closest("tr")?.querySelector("a")?.click();
  }

  // `columns`: metrics with a column of their own.
  setColumns(columns) {
    if (this.head.childElementCount && columns.join() === this.columns.join()) return;
    this.columns = columns;
    this.rows.clear();
    const names = ["State", "Device", "Last seen", "Battery", "24 hours"].map((name) => h("th", { scope: "col" }, name));
    fill(this.head, names, columns.map((name) => h("th", { scope: "col", class: "number" }, name)));
    this.clearBody();
  }

  // The page keeps its height until the rows are drawn again, so that it does not scroll.
  clearBody() {
    const { height } = this.body.getBoundingClientRect();
    fill(this.body, this.above, this.below);
    this.below.firstChild.style.setProperty("height", `${Math.max(0, height - this.above.getBoundingClientRect().height)}px`);
  }

  set(devices) {
    this.devices = devices;
    setAttribute(this.table, "aria-rowcount", devices.length + 1);
    this.draw();
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw(now = Date.now()) {
    const height = this.narrow.matches ? HEIGHTS.narrow : HEIGHTS.wide;
    const top = -this.body.getBoundingClientRect().top;
    const { length } = this.devices;
    const first = Math.max(0, Math.min(Math.floor(top / height) - OVERSCAN, length - 1));
    const end = Math.min(length, Math.ceil((top + innerHeight) / height) + OVERSCAN);
    const shown = this.devices.slice(first, Math.max(first, end));
    this.above.firstChild.style.setProperty("height", `${first * height}px`);
    this.below.firstChild.style.setProperty("height", `${Math.max(0, length - first - shown.length) * height}px`);
    this.place(shown, first, now);
    this.onVisible(shown);
  }

  // Rows that stay are moved only where they stand wrong, so that the focus stays in them.
  place(shown, first, now) {
    const wanted = new Set(shown);
    for (const [device, row] of this.rows) {
      if (wanted.has(device) || row.element.contains(document.activeElement)) continue;
      row.element.remove();
      this.rows.delete(device);
    }
    let before = this.above;
    shown.forEach((device, i) => {
      const row = this.rowOf(device);
      row.update(first + i, now);
      if (before.nextSibling !== row.element) before.after(row.element);
      before = row.element;
    });
    for (const [device, row] of this.rows) row.element.classList.toggle("away", !wanted.has(device));
  }

  rowOf(device) {
    let row = this.rows.get(device);
    if (!row) {
      row = new Row(device, this.columns, this.unit);
      this.rows.set(device, row);
    }
    return row;
  }
}
