// What the list of incidents is narrowed to; the address holds it.

import { h } from "../../lib/dom.js";
import { debounce } from "../../lib/throttle.js";
import { choice, segments } from "../../widgets/forms.js";
import { deviceInput } from "../../widgets/suggestions.js";
import { SEVERITIES, titleOf } from "../rules/model.js";
import { SILENT } from "./words.js";

const STATES = [["open", "Open"], ["firing", "Firing"], ["acknowledged", "Acknowledged"], ["resolved", "Resolved"], ["all", "All"]];
const QUIET_MS = 250;
const NAMES = ["state", "severity", "rule_id", "device_id"];

// The parameters of the API that the parameters of the address mean; open incidents if they do not say.
export function filtersOf(params) {
  const filters = Object.fromEntries(NAMES.map((name) => [name, params[name] || null]));
  filters.state ??= "open";
  if (filters.state === "all") filters.state = null;
  return filters;
}

// The controls; `changed(params)` gets the parameters of the address.
export function filterBar(app, params, rules, changed) {
  const chosen = { ...params };
  const set = (name, value) => {
    chosen[name] = value;
    changed(Object.fromEntries(NAMES.map((each) => [each, chosen[each]])));
  };
  const severities = [["", "Any severity"], ...SEVERITIES.map((each) => [each, each])];
  const names = [["", "Any rule"], [SILENT, "Devices that fall silent"], ...rules.map((rule) => [rule.id, titleOf(rule)])];
  const { input, list } = deviceInput(app, { type: "search", value: params.device_id ?? "", placeholder: "Any device", "aria-label": "Device" });
  const typed = debounce(QUIET_MS, () => set("device_id", input.value.trim()));
  input.addEventListener("input", typed);
  return h("div", { class: "row filters", role: "search", "aria-label": "Incidents" },
    segments("State", STATES, params.state || "open", (state) => set("state", state === "open" ? "" : state)),
    choice(severities, params.severity ?? "", { "aria-label": "Severity", onchange: (event) => set("severity", event.target.value) }),
    choice(names, params.rule_id ?? "", { "aria-label": "Rule", onchange: (event) => set("rule_id", event.target.value) }),
    input, list);
}
