// A chart of one metric of one device, which reads its values itself, and again when somebody zooms.

import { rfc3339 } from "../lib/time.js";
import { Chart } from "./chart.js";
import { gapMs, Series } from "./series.js";

const POINTS_MAX = 500;
const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000, mo: 30 * 86_400_000 };

export class MetricChart {
  constructor(app, place) {
    this.app = app;
    this.chart = new Chart(place, { label: "Values", time: app.time, onView: (view) => this.zoom(view), onCursor: (at) => this.chart.setCursor(at) });
    this.turn = 0;  // Of readings: a slow one must not be drawn over a later one.
  }

  destroy() {
    this.turn += 1;
    this.chart.destroy();
  }

  // `what`: deviceId, metric, view { from, to }, marks [{ from, to }], thresholds (see charts/chart.js).
  async show(what) {
    this.what = what;
    const label = `${what.metric} of ${what.deviceId}`;
    Object.assign(this.chart, { label, marks: what.marks, thresholds: what.thresholds });
    this.chart.canvas.setAttribute("aria-label", label);
    await this.read(what.view);
  }

  // Another shading of the same values.
  mark(marks) {
    this.chart.marks = marks;
    this.chart.redraw();
  }

  zoom(view) {
    return this.read(view ?? this.what.view).catch(() => null);
  }

  async read(view) {
    const turn = (this.turn += 1);
    this.chart.setView(view);
    const series = await readSeries(this.app, this.what, view);
    if (turn === this.turn) this.chart.set(series, view);
  }
}

async function readSeries({ api, time }, { deviceId, metric }, { from, to }) {
  const [{ body, headers }, device] = await Promise.all([
    api.getWithHeaders("/v1/metrics/aggregate", {
      metric, device_id: deviceId, from_time: rfc3339(from), to_time: rfc3339(to),
      interval: "auto", max_points: POINTS_MAX, tz: time.zone, stats: "count,avg,min,max", format: "columns",
    }),
    api.get(`/v1/devices/${encodeURIComponent(deviceId)}`).catch(() => null),
  ]);
  const step = intervalMs(headers.get("x-interval"));
  return Series.ofColumns(body, step, gapMs(step, device?.expected_interval_s));
}

function intervalMs(text) {
  const [, count, unit] = /^(\d+)(s|mo|m|h|d|w)$/.exec(text);
  return Number(count) * UNIT_MS[unit];
}
