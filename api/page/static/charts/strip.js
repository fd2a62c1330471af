// The strip of states of a device, and the small line of a list.

import { svg } from "../lib/dom.js";

const WIDTH = 1000;

// `spans`: [{ from, to, state, title }].
export function strip(spans, view, label) {
  const scale = (at) => ((at - view.from) / (view.to - view.from)) * WIDTH;
  const shown = spans.filter(({ from, to }) => to > view.from && from < view.to && to > from);
  return svg("svg", { viewBox: `0 0 ${WIDTH} 10`, preserveAspectRatio: "none", class: "strip", role: "img", "aria-label": label },
    ...shown.map(({ from, to, state, title }) => {
      const left = Math.max(0, scale(from));
      const width = Math.max(1.5, Math.min(WIDTH, scale(to)) - left);
      const text = svg("title", {}, title);
      return svg("rect", { x: left.toFixed(1), y: 0, width: width.toFixed(1), height: 10, class: `state-${state}` }, text);
    }));
}

const POINT = 2;  // The width of a value that stands alone.

// The path of a sparkline from a Series: cut at silences, and never steeper than `least` units over its height. A view ends now.
export function sparkPath(series, view, { least = 0, width = 100, height = 24 } = {}) {
  const extent = series.extent(view);
  if (!extent) return "";
  const middle = (extent.low + extent.high) / 2;
  const half = Math.max(extent.high - extent.low, least, 1e-9) / 2;
  const x = (at) => ((at - view.from) / (view.to - view.from)) * width;
  const y = (value) => (height - 2 - ((value - middle + half) / (2 * half)) * (height - 4)).toFixed(1);
  const line = (points) => points.map((point, i) => `${i ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point.sum / point.n)}`).join("");
  const alone = ({ at, sum, n }) => `M${Math.min(x(at), width - POINT).toFixed(1)} ${y(sum / n)}h${POINT}`;
  return series.stretches(view, width, view.to).map((points) => (points.length === 1 ? alone(points[0]) : line(points))).join("");
}
