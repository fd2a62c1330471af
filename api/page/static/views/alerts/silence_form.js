// A silence: what it concerns, until when, and why.

import { field, toast } from "../../lib/components.js";
import { h } from "../../lib/dom.js";
import { rfc3339 } from "../../lib/time.js";
import { choice, formDialog, textOf } from "../../widgets/forms.js";
import { textInput } from "../../widgets/pieces.js";
import { deviceInput } from "../../widgets/suggestions.js";
import { titleOf } from "../rules/model.js";
import { SILENT } from "./words.js";

const HOUR_MS = 3_600_000;
const SPANS = [[1, "1 hour"], [4, "4 hours"], [24, "1 day"], [24 * 7, "7 days"], [0, "until …"]];

// The new silence, null if the dialog was left. `given`: device_id, rule_id to begin with.
export async function addSilence(app, rules, given = {}) {
  const fields = fieldsOf(app, rules, given);
  const answer = await formDialog("Silence alerts", {
    intro: "Channels get nothing of what meets all that is given here. Incidents and this page go on.",
    fields: Object.values(fields),
    content: h("div", { class: "fields" }, Object.values(fields).map(({ element }) => element)),
    action: "Silence",
    send: () => app.api.send("POST", "/v1/silences", bodyOf(app.time, fields)),
  });
  if (answer) toast(`Silenced until ${app.time.short(answer.to_time)}.`, { kind: "good" });
  return answer;
}

function fieldsOf(app, rules, given) {
  const { time } = app;
  const { input, list } = deviceInput(app, { value: given.device_id ?? "" });
  const device = field("Device", input, { name: "device_id" });
  device.element.append(list);
  const names = [["", "every rule"], [SILENT, "Devices that fall silent"], ...rules.map((rule) => [rule.id, titleOf(rule)])];
  const moment = (value) => h("input", { type: "datetime-local", step: 60, value });
  const begin = field("From", moment(""), { name: "from_time", hint: `In ${time.zone}. Empty: from now on.` });
  const end = field("To", moment(time.toInput(Date.now() + HOUR_MS)), { name: "to_time" });
  const span = field("For", choice(SPANS, 1, {}), { name: "span" });
  const showEnd = () => { end.element.hidden = span.value !== "0"; };
  span.control.addEventListener("change", showEnd);
  showEnd();
  return {
    device,
    rule: field("Rule", choice(names, given.rule_id ?? "", {}), { name: "rule_id" }),
    tag: field("Tag", textInput({ maxLength: 128 }), { name: "tag", hint: "Of the device or of the event." }),
    begin, span, end,
    reason: field("Reason", h("input", { type: "text", maxLength: 2000, placeholder: "New battery" }), { name: "reason" }),
  };
}

function bodyOf(time, { device, rule, tag, begin, span, end, reason }) {
  const from = begin.value ? time.fromInput(begin.value) : null;
  const texts = { device_id: textOf(device), rule_id: rule.value || null, tag: textOf(tag), reason: textOf(reason) };
  return {
    ...Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== null)),
    ...(from === null ? {} : { from_time: rfc3339(from) }),
    to_time: endOf(time, from, span.value, end.value),
  };
}

function endOf(time, from, hours, text) {
  if (hours !== "0") return rfc3339((from ?? Date.now()) + Number(hours) * HOUR_MS);
  return text ? rfc3339(time.fromInput(text)) : "";
}
