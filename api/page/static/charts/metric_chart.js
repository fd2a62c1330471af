// A chart of one metric of one device, which reads its values itself, and again when somebody zooms.

import { limitsOf, unitOf } from "../lib/metrics.js";
import { rfc3339 } from "../lib/time.js";
import { Chart } from "./chart.js";
import { intervalMs } from "./interval.js";
import { gapMs, Series } from "./series.js";

const HEIGHT = 220;
const POINTS_MAX = 500;
const MARGIN = 0.06;  // Of the view, read on both sides: the partial buckets at the ends lie outside of it.

export class MetricChart {
  constructor(app, place) {
    this.app = app;
    this.chart = new Chart(place, {
      label: "Values", height: HEIGHT, time: app.time, onView: (view) => this.zoom(view), onCursor: (at) => this.chart.setCursor(at),
    });
    this.device = null;
    this.turn = 0;  // Of readings: a slow one must not be drawn over a later one.
  }

  destroy() {
    this.turn += 1;
    this.chart.destroy();
  }

  // `what`: deviceId, metric, view { from, to }, marks [{ from, to }], thresholds (see chart.js).
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
    const [device, { body, headers }] = await Promise.all([this.deviceWithProfile(), this.values(view)]);
    if (turn !== this.turn) return;
    const step = intervalMs(headers.get("x-interval"));
    const { metric } = this.what;
    Object.assign(this.chart, { unit: unitOf(device.profile, metric), ...limitsOf(device.profile, metric) });
    this.chart.set(Series.ofColumns(body, step, gapMs(step, device.expectedIntervalS)), view);
  }

  values({ from, to }) {
    const { deviceId, metric } = this.what;
    const margin = (to - from) * MARGIN;
    return this.app.api.getWithHeaders("/v1/metrics/aggregate", {
      metric, device_id: deviceId, from_time: rfc3339(from - margin), to_time: rfc3339(to + margin),
      interval: "auto", max_points: POINTS_MAX, tz: this.app.time.zone, stats: "count,avg,min,max", format: "columns",
    });
  }

  // Of a device that was forgotten only the values are left.
  async deviceWithProfile() {
    const { deviceId } = this.what;
    if (this.device?.id !== deviceId) {
      const { api } = this.app;
      const found = await api.get(`/v1/devices/${encodeURIComponent(deviceId)}`).catch(() => null);
      const profile = found && (await api.get(`/v1/profiles/${encodeURIComponent(found.profile)}`).catch(() => null));
      this.device = { id: deviceId, profile, expectedIntervalS: found?.expected_interval_s };
    }
    return this.device;
  }
}
