// Numbers, durations and states as texts.

export const STATES = ["online", "asleep", "late", "offline", "never_seen"];
const STATE_NAMES = { never_seen: "never seen" };

// "–" for nothing; else at most three digits after the point, fewer for large numbers.
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return short(value.toExponential(2));
  return value.toLocaleString("en", { maximumFractionDigits: digitsOf(size) });
}

// "1.5e9" for "1.50e+9".
export function short(exponential) {
  return exponential.replace(/(\.\d*?)0+e/, "$1e").replace(".e", "e").replace("e+", "e");
}

function digitsOf(size) {
  if (size >= 1000) return 0;
  if (size >= 100) return 1;
  return size >= 1 ? 2 : 3;
}

export function count(value) {
  return value.toLocaleString("en");
}

// "1 device", "23 devices".
export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function withUnit(value, unit) {
  return unit ? `${number(value)} ${unit}` : number(value);
}

// "5 s", "3 min", "2 h 5 min", "4 d": two units at most.
export function duration(ms) {
  const s = Math.round(Math.abs(ms) / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s < 600 ? two(s, 60, "min", 1, "s") : `${Math.round(s / 60)} min`;
  if (s < 86_400) return two(s, 3600, "h", 60, "min");
  return s < 10 * 86_400 ? two(s, 86_400, "d", 3600, "h") : `${Math.round(s / 86_400)} d`;
}

function two(s, large, largeName, small, smallName) {
  const whole = Math.floor(s / large);
  const rest = Math.floor((s - whole * large) / small);
  return rest ? `${whole} ${largeName} ${rest} ${smallName}` : `${whole} ${largeName}`;
}

// "just now", "3 min ago", "never". It keeps to one unit, so that a list can be compared at a glance.
export function ago(at, now = Date.now()) {
  if (at === null || at === undefined) return "never";
  const s = Math.round((now - (typeof at === "number" ? at : Date.parse(at))) / 1000);
  if (s < 10) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86_400)} d ago`;
}

export function stateName(state) {
  return STATE_NAMES[state] ?? state;
}

export function bytes(size) {
  return size < 1024 ? `${size} B` : `${number(size / 1024)} KiB`;
}
