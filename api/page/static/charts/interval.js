// Intervals of buckets as the API writes them: "30m", "1d", "3mo".

const UNITS_MS = { s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3, w: 7 * 86_400e3, mo: 30.4 * 86_400e3 };
const UNIT_NAMES = { m: "min", w: "weeks", mo: "months" };

export function intervalMs(text) {
  const [, count, unit] = /^(\d+)([a-z]+)$/.exec(text ?? "") ?? [null, 1, "m"];
  return count * UNITS_MS[unit];
}

// "30 min" for "30m", where a bare m would be a metre.
export function intervalName(text) {
  const [, count, unit] = /^(\d+)([a-z]+)$/.exec(text);
  return `${count} ${UNIT_NAMES[unit] ?? unit}`;
}
