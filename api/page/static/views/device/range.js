// The range of time that a device's charts show: the last hours up to now, or one that somebody zoomed into.

import { DAY, rfc3339 } from "../../lib/time.js";

const HOUR = DAY / 24;
export const RANGES = { "15min": HOUR / 4, "1h": HOUR, "6h": 6 * HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "1y": 365 * DAY };
const DEFAULT = "24h";
const SHORT = ["15min", "1h"];  // The first views of a young device.
const SPAN_MS_MAX = 10 * 366 * DAY;
const EARLIEST = Date.UTC(1971);

export class Range {
  // From the parameters of an address; what they do not say clearly is the default.
  constructor({ range, from, to }, now, fallback = DEFAULT) {
    this.name = isRange(range) ? range : fallback;
    const zoomed = { from: Date.parse(from), to: Date.parse(to) };
    this.zoomed = zoomed.from < zoomed.to ? limited(zoomed, now) : null;
    this.now = now;
  }

  get isLive() {
    return this.zoomed === null;
  }

  get view() {
    return this.zoomed ?? { from: this.now - RANGES[this.name], to: this.now };
  }

  get params() {
    if (this.zoomed) return { range: this.name, from: rfc3339(this.zoomed.from), to: rfc3339(this.zoomed.to) };
    return { range: this.name };
  }

  choose(name) {
    this.name = name;
    this.zoomed = null;
  }

  // Null goes back to live.
  zoom(view) {
    this.zoomed = view && limited(view, this.now);
  }
}

export function isRange(name) {
  return Object.hasOwn(RANGES, name);
}

// The shortest range that holds all events of a device, but at most a day. `hasBefore(at)` says whether an event is older.
export async function fittingRange(now, hasBefore) {
  const older = await Promise.all(SHORT.map((name) => hasBefore(now - RANGES[name])));
  return SHORT[older.indexOf(false)] ?? DEFAULT;
}

function limited({ from, to }, now) {
  const end = Math.min(to, now + DAY);
  return { from: Math.max(from, end - SPAN_MS_MAX, EARLIEST), to: Math.max(end, EARLIEST + HOUR) };
}
