// The last day of the devices on the screen, as small lines.

import { gapMs, Series } from "../../charts/series.js";
import { sparkPath } from "../../charts/strip.js";
import { leastRange } from "../../lib/metrics.js";
import { DAY, rfc3339 } from "../../lib/time.js";
import { mainMetric } from "./order.js";
import { Row } from "./row.js";

const INTERVAL = "30m";
const STEP_MS = 1_800_000;
const KEPT_MS = 600_000;
const KEPT_MAX = 500;  // Devices.
const WAIT_MS = 150;  // While somebody scrolls nothing is asked for.

export class Sparks {
  // `onPath(device, path)` when a line is known.
  constructor(app, onPath) {
    Object.assign(this, { app, onPath, known: new Map(), ended: new AbortController() });
  }

  destroy() {
    this.ended.abort();
    clearTimeout(this.timer);
  }

  show(devices) {
    const now = Date.now();
    for (const device of devices) if (this.known.has(device.device_id)) this.onPath(device, this.known.get(device.device_id).path);
    this.wanted = devices.filter(({ device_id: id, latest }) => Object.keys(latest).length && !(now - this.known.get(id)?.at < KEPT_MS));
    if (this.wanted.length) this.timer ??= setTimeout(() => { this.timer = null; this.read(this.wanted); }, WAIT_MS);
  }

  async read(devices) {
    const byMetric = Map.groupBy(devices, mainMetric);
    for (const device of devices) this.keep(device, "");
    await Promise.allSettled([...byMetric].map(([metric, of]) => this.readMetric(metric, of)));
  }

  async readMetric(metric, devices) {
    const now = Date.now();
    const answer = await this.app.api.get("/v1/metrics/aggregate", {
      metric, device_id: devices.map((each) => each.device_id), group_by: "device", interval: INTERVAL, format: "columns",
      stats: "avg,min,max,count", from_time: rfc3339(now - DAY), to_time: rfc3339(now),
    }, this.ended.signal);
    const groups = new Map([answer].flat().map((group) => [group.device_id, group]));
    for (const device of devices) {
      const group = groups.get(device.device_id);
      if (group) this.keep(device, pathOf(group, device, metric, now));
    }
  }

  keep(device, path) {
    if (this.known.size >= KEPT_MAX) this.known.delete(this.known.keys().next().value);
    this.known.set(device.device_id, { path, at: Date.now() });
    this.onPath(device, path);
  }
}

function pathOf(group, device, metric, now) {
  const series = Series.ofColumns(group, STEP_MS, gapMs(STEP_MS, device.expected_interval_s));
  const least = leastRange(metric, device.latest[metric].value);
  return sparkPath(series, { from: now - DAY, to: now }, { least, ...Row.SPARK });
}
