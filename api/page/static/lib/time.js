// Time in one named zone: that of this browser, or UTC. Axes, lists, tooltips and calendar buckets all use it.

const KEY = "voltwire.zone";
const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
export const LOCAL_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

export class Time {
  constructor() {
    this.zone = read(KEY) === "UTC" ? "UTC" : LOCAL_ZONE;
    this.listeners = new Set();
    this.formats = new Map();
    this.offsets = new Map();
  }

  // The zones to choose from; one if this browser runs in UTC.
  get zones() {
    return [...new Set([LOCAL_ZONE, "UTC"])];
  }

  setZone(zone) {
    this.zone = zone;
    this.formats.clear();
    this.offsets.clear();
    write(KEY, zone);
    for (const each of this.listeners) each(zone);
  }

  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  // "28 Nov 2026, 14:05:09". `at` is a number of ms or an RFC 3339 text.
  full(at) {
    return this.format(at, { day: "numeric", month: "short", year: "numeric", ...CLOCK, second: "2-digit" });
  }

  // As short as is clear beside now: "14:05:09" today, "27 Nov, 14:05", and with the year if it is another one.
  short(at, now = Date.now()) {
    const ms = instant(at);
    if (this.dayOf(ms) === this.dayOf(now)) return this.format(ms, { ...CLOCK, second: "2-digit" });
    const year = this.wall(ms).getUTCFullYear() === this.wall(now).getUTCFullYear() ? {} : { year: "numeric" };
    return this.format(ms, { day: "numeric", month: "short", ...year, ...CLOCK });
  }

  format(at, options) {
    const key = JSON.stringify(options);
    if (!this.formats.has(key)) {
      this.formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: this.zone, hourCycle: "h23", ...options }));
    }
    return this.formats.get(key).format(instant(at));
  }

  // The wall clock at an instant, as a Date whose UTC fields are the local ones.
  wall(at) {
    return new Date(instant(at) + this.offset(instant(at)));
  }

  dayOf(at) {
    return Math.floor((at + this.offset(at)) / DAY);
  }

  // The offset from UTC at an instant, in ms. No zone changes its clocks within a quarter of an hour.
  offset(at) {
    if (this.zone === "UTC") return 0;
    const quarter = Math.floor(at / (HOUR / 4));
    let found = this.offsets.get(quarter);
    if (found === undefined) {
      if (this.offsets.size > OFFSETS_MAX) this.offsets.clear();
      found = offsetOf(this.zone, quarter * (HOUR / 4));
      this.offsets.set(quarter, found);
    }
    return found;
  }

  // The instant of a wall clock; of a doubled one the earlier, of a skipped one that by the offset before.
  atWall(wall) {
    const before = wall - this.offset(wall - DAY);
    const after = wall - this.offset(before);
    return after === before || after + this.offset(after) !== wall ? before : after;
  }

  // For <input type="datetime-local">, both ways.
  toInput(at) {
    return this.wall(at).toISOString().slice(0, 16);
  }

  fromInput(text) {
    return this.atWall(Date.parse(`${text}Z`));
  }
}

const CLOCK = { hour: "2-digit", minute: "2-digit" };
const OFFSETS_MAX = 5_000;
const FIELDS = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" };
const zoneFormats = new Map();

function offsetOf(zone, at) {
  if (!zoneFormats.has(zone)) {
    zoneFormats.set(zone, new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...FIELDS }));
  }
  const parts = zoneFormats.get(zone).formatToParts(at);
  const { year, month, day, hour, minute, second } = Object.fromEntries(parts.map((part) => [part.type, Number(part.value)]));
  return Date.UTC(year, month - 1, day, hour, minute, second) - at;
}

export function instant(at) {
  return typeof at === "number" ? at : Date.parse(at);
}

export function rfc3339(at) {
  return new Date(Math.round(at)).toISOString();
}

// Storage may be forbidden; the choice then lasts as long as the page.
export function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function write(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Nothing depends on it.
  }
}
