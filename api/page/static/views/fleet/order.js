// Which devices are listed, and in which order. Pure functions of what is known of them.

import { STATES } from "../../lib/format.js";

const LONG_GONE_MS = 30 * 86_400_000;
const BATTERY = "soc_percent";

export const SORTS = { trouble: "Trouble first", name: "Name", seen: "Last seen", battery: "Battery, lowest first" };
export const FILTERS = ["all", ...STATES, "alerts"];

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// What a search looks at, in lower case.
export function searchText({ device_id: id, name, tags }) {
  return [id, name ?? "", ...tags].join("\n").toLowerCase();
}

export function isLongGone({ state, since }, now) {
  return state === "offline" && now - Date.parse(since) > LONG_GONE_MS;
}

export function batteryOf(device) {
  return device.latest?.[BATTERY]?.value ?? null;
}

// The metric that stands for a device: the battery, or the first by name; undefined without a value.
export function mainMetric({ latest }) {
  const names = Object.keys(latest ?? {});
  return names.includes(BATTERY) ? BATTERY : names.sort()[0];
}

// `filter` is a state, "alerts" or "all"; every word of `search` must be in the id, the name or a tag.
export function matching(devices, filter, search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return devices.filter((device) => isIn(device, filter) && words.every((word) => device.text.includes(word)));
}

function isIn(device, filter) {
  if (filter === "all") return true;
  return filter === "alerts" ? device.open_incidents > 0 : device.state === filter;
}

// How many devices each filter would list.
export function countsOf(devices) {
  const counts = Object.fromEntries(FILTERS.map((filter) => [filter, 0]));
  for (const device of devices) {
    counts.all += 1;
    counts[device.state] += 1;
    if (device.open_incidents > 0) counts.alerts += 1;
  }
  return counts;
}

// 0 needs attention most. Devices that are gone for a month are last, whatever fires for them.
function rank(device, now) {
  if (isLongGone(device, now)) return 6;
  if (device.open_incidents > 0) return device.severity === "critical" ? 0 : 1;
  return { offline: 2, late: 3, online: device.flapping ? 4 : 5, asleep: 5, never_seen: 6 }[device.state];
}

const KEYS = {
  trouble: (device, now) => rank(device, now),
  name: () => 0,
  seen: (device) => -(device.last_seen ? Date.parse(device.last_seen) : 0),
  battery: (device) => batteryOf(device) ?? Infinity,
};

// Sorted by the chosen key, then by name. Keys are made once, as a comparison would make them again and again.
export function sorted(devices, sort, now) {
  const keyed = devices.map((device) => ({ device, key: KEYS[sort](device, now) }));
  keyed.sort((a, b) => (a.key === b.key ? byName(a.device, b.device) : a.key - b.key));
  return keyed.map(({ device }) => device);
}

function byName(a, b) {
  return collator.compare(a.name ?? a.device_id, b.name ?? b.device_id) || (a.device_id < b.device_id ? -1 : 1);
}

// The order of before, for as long as somebody points at it; what is new comes last.
export function held(before, devices) {
  const left = new Set(devices);
  const kept = before.filter((device) => left.delete(device));
  return [...kept, ...left];
}
