// Rules as data: what each condition asks for, what a form holds, and what a rule says in words.

export const CONDITIONS = [
  { name: "threshold", title: "Value", text: "A value passes a threshold." },
  { name: "rate", title: "Rate", text: "A value changes too fast: the threshold is the change per minute." },
  { name: "no_data", title: "No data", text: "A device stops sending a metric." },
];
export const OPS = [">", ">=", "<", "<=", "==", "!="];
export const SEVERITIES = ["critical", "warning", "info"];

// The fields that only some conditions have; the API refuses them elsewhere.
const COMPARING = ["op", "threshold", "clear_threshold", "max_gap_s", "notify"];

export function hasField(condition, name) {
  return condition !== "no_data" || !COMPARING.includes(name);
}

// A rule before anybody wrote anything.
export const NEW_RULE = {
  condition: "threshold", device_id: null, tag: null, metric: "", op: ">", threshold: null, name: null, severity: "warning",
  for_s: 0, max_gap_s: null, clear_threshold: null, cooldown_s: 0, notify: "change", channels: [], enabled: true,
};

// What the API takes: the fields of the condition, without those that hold nothing.
export function bodyOf(rule) {
  const fields = Object.keys(NEW_RULE).filter((name) => hasField(rule.condition, name));
  const given = fields.filter((name) => rule[name] !== null && rule[name] !== "" && rule[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, rule[name]]));
}

// "temp_c > 60 for 5 min, clears at 55". `duration` writes seconds.
export function conditionText(rule, duration) {
  if (rule.condition === "no_data") return `no ${rule.metric} for ${duration(rule.for_s)}`;
  const what = rule.condition === "rate" ? `change of ${rule.metric} per minute` : rule.metric;
  const during = rule.for_s ? ` for ${duration(rule.for_s)}` : "";
  const clears = rule.clear_threshold === null ? "" : `, clears at ${rule.clear_threshold}`;
  return `${what} ${rule.op} ${rule.threshold}${during}${clears}`;
}

export function scopeText(rule) {
  const parts = [rule.device_id, rule.tag && `events tagged ${rule.tag}`].filter(Boolean);
  return parts.join(", ") || "all devices";
}

export function titleOf(rule) {
  return rule.name ?? `${rule.metric} (${rule.id})`;
}

// The field of the form that a fault is about. Faults that concern several fields name one of them in their sentence.
export function fieldOf(fault) {
  const name = fault.field.replace(/^rule\.?/, "").split(".")[0];
  if (name in NEW_RULE) return name;
  return Object.keys(NEW_RULE).find((each) => fault.message.startsWith(each)) ?? null;
}
