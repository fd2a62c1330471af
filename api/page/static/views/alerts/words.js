// What an incident says.

import { number } from "../../lib/format.js";

export const SILENT = "silent";  // The built-in rule of devices that went offline.

// Its name, for people: that of the rule, or what it watches.
export function incidentName(incident) {
  if (incident.rule_id === SILENT) return "Device is silent";
  return incident.rule_name ?? incident.metric ?? incident.rule_id;
}

// "temp_c > 60", "no temp_c", "no sign of life".
export function conditionOf({ metric, op, threshold }) {
  if (metric === null) return "no sign of life";
  return op === null ? `no ${metric}` : `${metric} ${op} ${number(threshold)}`;
}
