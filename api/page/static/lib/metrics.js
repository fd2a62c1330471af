// Names and units of metrics: a profile's units are UCUM codes, which people write differently.

const UNITS = { Cel: "°C", "[degF]": "°F", Ohm: "Ω", "m/s2": "m/s²", "kW.h": "kWh", "A.h": "Ah" };
const FIRST = ["soc_percent", "voltage_v", "current_a", "temp_c"];
const NEVER_STEEPER = 0.02;  // Of its value: a sparkline does not show noise as mountains.

// Profiles by name, read once for a view.
export async function profilesByName(api) {
  return new Map((await api.get("/v1/profiles")).map((each) => [each.name, each]));
}

export function unitOf(profile, metric) {
  const unit = profile?.metrics[metric]?.unit ?? "";
  return UNITS[unit] ?? unit;
}

// What a metric can be at all: a scale of percent does not reach beyond 0 and 100.
export function limitsOf(profile, metric) {
  const { unit, min, max } = profile?.metrics[metric] ?? {};
  return unit === "%" ? { floor: min ?? null, ceiling: max ?? null } : {};
}

// The battery first, then by name.
export function inOrder(metrics) {
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [...metrics].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

export function leastRange(metric, value) {
  return metric === "soc_percent" ? 20 : Math.abs(value ?? 0) * NEVER_STEEPER;
}
