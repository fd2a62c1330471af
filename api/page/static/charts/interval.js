// Intervals of buckets as the API writes them: "30m", "1d", "3mo".

const UNITS_MS = { s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3, w: 7 * 86_400e3, mo: 30.4 * 86_400e3 };
const UNIT_NAMES = { m: "min", w: "week", mo: "month" };

export function intervalMs(text) {
  const [, count, unit] = /^(\d+)([a-z]+)$/.exec(text ?? "") ?? [null, 1, "m"];
  return count * UNITS_MS[unit];
}

// What stands behind "per": "30 min" for "30m", where a bare m would be a metre; "week", and "3 months".
export function intervalName(text) {
  const [, count, unit] = /^(\d+)([a-z]+)$/.exec(text);
  if (unit !== "w" && unit !== "mo") return `${count} ${UNIT_NAMES[unit] ?? unit}`;
  return count === "1" ? UNIT_NAMES[unit] : `${count} ${UNIT_NAMES[unit]}s`;
}
