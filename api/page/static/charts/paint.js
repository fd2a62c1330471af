// Draws a chart on its canvas. Everything comes as arguments: nothing here remembers or asks.

import { tickLabel, timeTicks, valueLabels, valueTicks } from "./ticks.js";

const FONT = "11.5px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const TICK_PX = 62;  // Between the labels of times.
const VALUE_PX = 30;  // Between those of values.
const LABEL_GAP_PX = 7;
const LINE_PX = 1.6;
const FAR = 20;  // A rule so many times farther away than the values are apart would flatten them to a line.
const OPEN_DASH = [2, 3];

// Colours of the style sheet. A custom property may hold light-dark(…), which only `color` resolves.
export function colours(element) {
  const probe = document.createElement("i");
  element.append(probe);
  const found = {};
  for (const name of ["chart", "band", "grid", "soft", "ink", "bad", "late", "gap", "raised", "line"]) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

// From values to pixels: { box, x(at), y(value) }.
export function scaleOf(box, view, low, high) {
  const perMs = (box.right - box.left) / (view.to - view.from);
  const perUnit = (box.bottom - box.top) / (high - low);
  return { box, x: (at) => box.left + (at - view.from) * perMs, y: (value) => box.bottom - (value - low) * perUnit };
}

// The values from the lowest to the highest of what is shown, with some air; never beyond what the metric can be.
// `lines` that lie far away are not shown.
export function valueRange(extent, lines, { floor = null, ceiling = null } = {}) {
  let { low, high } = extent ?? { low: floor ?? 0, high: ceiling ?? 1 };
  const far = FAR * Math.max(high - low, Math.max(Math.abs(low), Math.abs(high)) * 0.1);
  for (const value of lines.filter((each) => each >= high - far && each <= low + far)) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const air = high > low ? (high - low) * 0.08 : Math.max(Math.abs(low) * 0.02, 0.5);
  const isInside = (limit) => limit !== null;
  return {
    low: isInside(floor) && low >= floor ? Math.max(floor, low - air) : low - air,
    high: isInside(ceiling) && high <= ceiling ? Math.min(ceiling, high + air) : high + air,
  };
}

export function clear(pen, width, height, ratio) {
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
}

// The values that stand at the left, and how many px they need: [{ value, text }], width.
export function valueAxis(pen, { top, bottom }, { low, high }) {
  const ticks = valueTicks(low, high, Math.max(2, Math.floor((bottom - top) / VALUE_PX)));
  const texts = valueLabels(ticks);
  const width = Math.max(0, ...texts.map((text) => pen.measureText(text).width)) + LABEL_GAP_PX;
  return { labels: ticks.map((value, i) => ({ value, text: texts[i] })), width: Math.ceil(width) };
}

export function grid(pen, scale, labels, view, time, colour) {
  const { box } = scale;
  pen.strokeStyle = colour.grid;
  pen.fillStyle = colour.soft;
  pen.lineWidth = 1;
  pen.beginPath();
  drawValues(pen, scale, labels);
  const most = Math.max(2, Math.floor((box.right - box.left) / TICK_PX));
  timeLabels(pen, scale, timeTicks(time, view.from, view.to, most), time);
  pen.stroke();
}

function drawValues(pen, { box, y }, labels) {
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const { value, text } of labels) {
    const at = Math.round(y(value)) + 0.5;
    pen.moveTo(box.left, at);
    pen.lineTo(box.right, at);
    pen.fillText(text, box.left - LABEL_GAP_PX, at);
  }
}

function timeLabels(pen, { box, x }, { ticks, step }, time) {
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const at of ticks) {
    const where = Math.round(x(at)) + 0.5;
    pen.moveTo(where, box.top);
    pen.lineTo(where, box.bottom);
    const text = tickLabel(time, at, step);
    const half = pen.measureText(text).width / 2;
    pen.fillText(text, Math.min(Math.max(where, half), box.right + 8 - half), box.bottom + 7);
  }
}

// Spans of time over the whole height: silence, or when a rule fires.
export function spans(pen, { box, x }, list, colour, alpha = 1) {
  pen.fillStyle = colour;
  pen.globalAlpha = alpha;
  for (const { from, to } of list) {
    const left = Math.max(box.left, x(from));
    const right = Math.min(box.right, x(to));
    if (right > left - 1) pen.fillRect(left, box.top, Math.max(1, right - left), box.bottom - box.top);
  }
  pen.globalAlpha = 1;
}

// The band from the lowest to the highest value: peaks survive however far one zooms out.
export function band(pen, { x, y }, stretches, colour) {
  pen.fillStyle = colour;
  for (const points of stretches) {
    if (points.length < 2) continue;
    pen.beginPath();
    for (const point of points) pen.lineTo(x(point.at), y(point.high));
    for (let i = points.length - 1; i >= 0; i -= 1) pen.lineTo(x(points[i].at), y(points[i].low));
    pen.fill();
  }
}

// The mean. To a bucket that has not ended it is dotted, as the mean of a part may lie elsewhere.
export function line(pen, { x, y }, stretches, colour) {
  pen.strokeStyle = colour;
  pen.fillStyle = colour;
  pen.lineWidth = LINE_PX;
  pen.lineJoin = "round";
  pen.beginPath();
  for (const points of stretches) trace(pen, x, y, points.filter((point) => !point.isOpen));
  pen.stroke();
  pen.setLineDash(OPEN_DASH);
  pen.beginPath();
  for (const points of stretches) if (points[points.length - 1].isOpen) trace(pen, x, y, points.slice(-2));
  pen.stroke();
  pen.setLineDash([]);
  for (const points of stretches) if (points.length === 1) alone(pen, x(points[0].at), points[0], y);
}

function trace(pen, x, y, points) {
  points.forEach((point, i) => pen[i ? "lineTo" : "moveTo"](x(point.at), y(point.sum / point.n)));
}

// A point without neighbours has no line: a dot, and its range.
function alone(pen, where, point, y) {
  pen.fillRect(where - 1, y(point.high), 2, Math.max(2, y(point.low) - y(point.high)));
  pen.beginPath();
  pen.arc(where, y(point.sum / point.n), 2.4, 0, 2 * Math.PI);
  pen.fill();
}

// Dashed lines of rules: [{ value, label, severity }].
export function thresholds(pen, { box, y }, list, colour) {
  pen.setLineDash([5, 4]);
  pen.lineWidth = 1.2;
  pen.textAlign = "right";
  for (const { value, label, severity } of list) {
    const at = Math.round(y(value)) + 0.5;
    pen.strokeStyle = pen.fillStyle = severity === "critical" ? colour.bad : colour.late;
    pen.beginPath();
    pen.moveTo(box.left, at);
    pen.lineTo(box.right, at);
    pen.stroke();
    pen.textBaseline = at - box.top > 16 ? "bottom" : "top";
    if (label) pen.fillText(label, box.right - 6, at + (at - box.top > 16 ? -2 : 3));
  }
  pen.setLineDash([]);
}

export function message(pen, { box }, text, colour) {
  pen.fillStyle = colour.soft;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(text, (box.left + box.right) / 2, (box.top + box.bottom) / 2);
}

// The line of the cursor with what stands there: the first texts strong, the last one (the time) soft.
export function cursor(pen, { box, x, y }, at, point, texts, colour) {
  const where = Math.round(x(at)) + 0.5;
  pen.strokeStyle = colour.soft;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(where, box.top);
  pen.lineTo(where, box.bottom);
  pen.stroke();
  if (point) dot(pen, x(point.middle), y(point.avg), colour);
  label(pen, box, where, texts, colour);
}

function dot(pen, where, height, colour) {
  pen.beginPath();
  pen.arc(where, height, 4, 0, 2 * Math.PI);
  pen.fillStyle = colour.chart;
  pen.fill();
  pen.strokeStyle = colour.raised;
  pen.lineWidth = 1.5;
  pen.stroke();
}

function label(pen, box, where, texts, colour) {
  const width = Math.max(...texts.map((text) => pen.measureText(text).width)) + 18;
  const left = where + 12 + width > box.right ? where - 12 - width : where + 12;
  pen.fillStyle = colour.raised;
  pen.strokeStyle = colour.line;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.roundRect(left, box.top + 2, width, texts.length * 16 + 10, 6);
  pen.fill();
  pen.stroke();
  pen.textAlign = "left";
  pen.textBaseline = "top";
  texts.forEach((text, i) => {
    pen.fillStyle = i === texts.length - 1 ? colour.soft : colour.ink;
    pen.fillText(text, left + 9, box.top + 9 + i * 16);
  });
}
