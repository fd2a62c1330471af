// What an incident says.

import { number } from "../../lib/format.js";

export const SILENT = "silent";  // The built-in rule of devices that went offline.

// Its name, for people: that of the rule, or what it watches.
export function incidentName(incident) {
  if (incident.rule_id === SILENT) return "Device is silent";
  return incident.rule_name ?? incident.metric ?? incident.rule_id;
}

// "temp_c > 60", "no temp_c", "no sign of life". `rule` is that of the incident, if it still exists: an incident does
// not say whether it is about a value or about its change.
export function conditionOf({ metric, op, threshold }, rule) {
  if (metric === null) return "no sign of life";
  if (op === null) return `no ${metric}`;
  return `${isRate(rule) ? `change of ${metric} per minute` : metric} ${op} ${number(threshold)}`;
}

export function isRate(rule) {
  return rule?.condition === "rate";
}
