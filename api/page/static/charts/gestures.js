// How people move a chart. Mouse: drag to zoom, double click to go back, Ctrl and wheel to zoom. Fingers: two to pinch.
// Keys: arrows read values, plus and minus zoom, Shift with arrows moves, 0 or Escape goes back.

const DRAG_PX_MIN = 6;
const SPAN_MS_MIN = 2_000;

export function listen(chart, signal) {
  const { canvas } = chart;
  const on = (type, handler, options = {}) => canvas.addEventListener(type, handler, { signal, ...options });
  const pinch = new Pinch(chart);
  on("pointerdown", (event) => pinch.down(event) || pointerDown(chart, event));
  on("pointermove", (event) => pinch.move(event) || pointerMove(chart, event));
  for (const type of ["pointerup", "pointercancel"]) on(type, (event) => { pinch.up(event); pointerUp(chart); });
  on("pointerleave", () => !chart.drag && chart.onCursor(null));
  on("dblclick", () => chart.onView(null));
  on("wheel", (event) => wheel(chart, event), { passive: false });
  on("keydown", (event) => key(chart, event) && event.preventDefault());
  on("focus", () => canvas.setAttribute("aria-label", chart.say()));
}

function placeOf(chart, event) {
  return event.clientX - chart.canvas.getBoundingClientRect().left;
}

function pointerDown(chart, event) {
  if (event.button) return;
  const at = chart.instantAt(placeOf(chart, event));
  if (event.pointerType !== "mouse") {
    chart.onCursor(at);
    return;
  }
  chart.canvas.setPointerCapture(event.pointerId);
  chart.drag = { from: at, to: at, start: at, startPx: event.clientX, isFar: false };
}

function pointerMove(chart, event) {
  const at = chart.instantAt(placeOf(chart, event));
  const { drag } = chart;
  if (drag) {
    [drag.from, drag.to] = [drag.start, at].sort((a, b) => a - b);
    drag.isFar ||= Math.abs(event.clientX - drag.startPx) > DRAG_PX_MIN;
    chart.redraw();
  }
  chart.onCursor(at);
}

function pointerUp(chart) {
  const { drag } = chart;
  chart.drag = null;
  if (!drag?.isFar) return chart.redraw();
  chart.onCursor(null);  // The pointer is at another instant of the new view.
  return show(chart, drag);
}

// Two fingers hold two instants; the view follows them.
class Pinch {
  constructor(chart) {
    this.chart = chart;
    this.fingers = new Map();
    this.held = null;
  }

  down(event) {
    this.fingers.set(event.pointerId, placeOf(this.chart, event));
    if (this.fingers.size !== 2) return false;
    this.chart.drag = null;
    this.held = this.places().map((px) => this.chart.instantAt(px));
    return true;
  }

  move(event) {
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, placeOf(this.chart, event));
    if (this.fingers.size !== 2) return false;
    const [a, b] = this.places();
    const msPerPx = (this.held[1] - this.held[0]) / Math.max(20, b - a);
    const { left, right } = this.chart.box;
    show(this.chart, { from: this.held[0] - (a - left) * msPerPx, to: this.held[0] + (right - a) * msPerPx });
    return true;
  }

  up(event) {
    this.fingers.delete(event.pointerId);
  }

  places() {
    return [...this.fingers.values()].sort((a, b) => a - b);
  }
}

function wheel(chart, event) {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  zoom(chart, chart.instantAt(placeOf(chart, event)), event.deltaY > 0 ? 1.25 : 0.8);
}

function zoom(chart, middle, by) {
  const { from, to } = chart.view;
  show(chart, { from: middle - (middle - from) * by, to: middle + (to - middle) * by });
}

function show(chart, { from, to }) {
  if (to - from >= SPAN_MS_MIN) chart.onView({ from, to });
}

// Whether the key was one of the chart's.
function key(chart, { key: name, shiftKey, altKey, ctrlKey, metaKey }) {
  if (altKey || ctrlKey || metaKey) return false;
  const { from, to } = chart.view;
  const way = { ArrowLeft: -1, ArrowRight: 1 }[name] ?? 0;
  if (way && shiftKey) show(chart, { from: from + (way * (to - from)) / 4, to: to + (way * (to - from)) / 4 });
  else if (way) step(chart, way);
  else if (name === "+" || name === "=") zoom(chart, chart.cursor ?? (from + to) / 2, 0.5);
  else if (name === "-") zoom(chart, (from + to) / 2, 2);
  else if (name === "0" || name === "Escape") goBack(chart);
  else return false;
  return true;
}

// To the next value; where there is none, to the edge of the view, so that the key is never mute.
function step(chart, way) {
  const { series, view } = chart;
  const here = chart.cursor ?? (way > 0 ? view.from : view.to);
  const i = way > 0 ? series.index(here + 1) : series.index(here) - 1;
  const found = series.t[i];
  chart.onCursor(found !== undefined && found >= view.from && found <= view.to ? found : way > 0 ? view.to : view.from);
  chart.canvas.setAttribute("aria-label", chart.say());
}

function goBack(chart) {
  chart.onView(null);
  chart.onCursor(null);
}
