// A chart of one metric: its line, band, silences, thresholds and cursor. It draws what it is given and asks for nothing.

import { h } from "../lib/dom.js";
import { number, withUnit } from "../lib/format.js";
import { listen } from "./gestures.js";
import * as paint from "./paint.js";
import { Series } from "./series.js";

const LEFT = 52;
const BOTTOM = 26;
const SHADE_ALPHA = 0.15;

// One animation frame draws every chart that has changed.
const waiting = new Set();
function drawSoon(chart) {
  if (!waiting.size) requestAnimationFrame(drawWaiting);
  waiting.add(chart);
}

function drawWaiting() {
  const charts = [...waiting];
  waiting.clear();
  for (const each of charts) each.draw();
}

export class Chart {
  // Options: `time` (a Time), `label`, `unit`, `height`, `floor` and `ceiling` (what the metric can be at all),
  // `onView({ from, to } or null)` when somebody zooms, moves or goes back, `onCursor(at or null)`,
  // `thresholds` [{ value, label, severity }], `marks` [{ from, to }] (shaded: a rule fires), `now()` in ms.
  constructor(place, options) {
    Object.assign(this, { unit: "", label: "", height: 176, floor: null, ceiling: null, thresholds: [], marks: [] });
    Object.assign(this, { onView: () => {}, onCursor: () => {}, now: Date.now }, options);
    this.series = new Series();
    this.view = { from: 0, to: 1 };
    this.cursor = null;
    this.drag = null;
    this.left = LEFT;
    this.canvas = h("canvas", { tabIndex: 0, role: "img", "aria-label": this.label, style: { height: `${this.height}px` }, class: "plot" });
    place.append(this.canvas);
    this.ended = new AbortController();
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.canvas);
    addEventListener("themechange", () => this.recolour(), { signal: this.ended.signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour(), { signal: this.ended.signal });
    listen(this, this.ended.signal);
  }

  destroy() {
    this.ended.abort();
    this.resized.disconnect();
    waiting.delete(this);
    this.canvas.remove();
  }

  // Show a Series in a view { from, to }.
  set(series, view) {
    this.series = series;
    this.view = view;
    if (document.activeElement !== this.canvas) this.canvas.setAttribute("aria-label", this.say());
    this.redraw();
  }

  setView(view) {
    this.view = view;
    this.redraw();
  }

  setCursor(at) {
    if (at === this.cursor) return;
    this.cursor = at;
    this.redraw();
  }

  redraw() {
    drawSoon(this);
  }

  recolour() {
    this.colours = null;
    this.redraw();
  }

  fit() {
    this.ratio = devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    this.colours = null;
    if (this.width) this.draw();
  }

  get box() {
    return { left: this.left, right: this.width - 10, top: 8, bottom: this.height - BOTTOM };
  }

  // The instant at a place on the canvas, in px from its left.
  instantAt(px) {
    const { left, right } = this.box;
    return this.view.from + ((px - left) / (right - left)) * (this.view.to - this.view.from);
  }

  draw() {
    if (!this.width) return;
    const pen = this.canvas.getContext("2d");
    const colour = (this.colours ??= paint.colours(this.canvas.parentElement));
    const extent = this.series.extent(this.view);
    this.range = paint.valueRange(extent, extent ? this.thresholds.map(({ value }) => value) : [], this);
    paint.clear(pen, this.width, this.height, this.ratio);
    const { labels, width } = paint.valueAxis(pen, this.box, this.range);
    this.left = Math.max(LEFT, width);
    this.scale = paint.scaleOf(this.box, this.view, this.range.low, this.range.high);
    paint.grid(pen, this.scale, labels, this.view, this.time, colour);
    this.clipped(pen, () => this.drawData(pen, colour));
    if (!extent) paint.message(pen, this.scale, "No values in this time", colour);
    this.drawCursor(pen, colour);
  }

  drawData(pen, colour) {
    const columns = Math.ceil((this.box.right - this.box.left) * this.ratio);
    const stretches = this.series.stretches(this.view, columns, this.now());
    paint.spans(pen, this.scale, this.series.silences(this.view, this.now()), colour.gap);
    paint.spans(pen, this.scale, this.marks, colour.bad, SHADE_ALPHA);
    paint.band(pen, this.scale, stretches, colour.band);
    paint.line(pen, this.scale, stretches, colour.chart);
    paint.thresholds(pen, this.scale, this.thresholds, colour);
    if (this.drag) paint.spans(pen, this.scale, [this.drag], colour.chart, SHADE_ALPHA);
  }

  clipped(pen, draw) {
    const { left, right, top, bottom } = this.box;
    pen.save();
    pen.beginPath();
    pen.rect(left, top - 5, right - left, bottom - top + 10);
    pen.clip();
    draw();
    pen.restore();
  }

  drawCursor(pen, colour) {
    if (this.cursor === null || this.cursor < this.view.from || this.cursor > this.view.to) return;
    const point = this.series.at(this.cursor);
    paint.cursor(pen, this.scale, this.cursor, point, this.texts(point), colour);
  }

  texts(point) {
    if (!point) return [this.cursor > this.now() ? "in the future" : "nothing received", this.time.short(this.cursor)];
    const range = point.min === point.max ? [] : [`${number(point.min)} to ${number(point.max)}`];
    return [withUnit(point.avg, this.unit), ...range, this.time.short(point.at)];
  }

  // What a screen reader says of the chart.
  say() {
    const point = this.cursor === null ? null : this.series.at(this.cursor);
    if (point) return `${this.label}: ${withUnit(point.avg, this.unit)} at ${this.time.full(point.at)}`;
    const extent = this.series.extent(this.view);
    const values = extent ? `between ${number(extent.low)} and ${withUnit(extent.high, this.unit)}` : "no values";
    const span = `from ${this.time.full(this.view.from)} to ${this.time.full(this.view.to)}`;
    return `${this.label}, ${span}: ${values}. Arrow keys read values, plus and minus zoom, Shift with arrows moves, 0 goes back.`;
  }
}
