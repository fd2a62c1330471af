// The fields of a rule. Which of them are shown depends on its condition.

import { field } from "../../lib/components.js";
import { h } from "../../lib/dom.js";
import { durationField } from "../../widgets/duration_field.js";
import { choice, group, numberOf, textOf } from "../../widgets/forms.js";
import { textInput } from "../../widgets/pieces.js";
import { deviceInput, suggestingInput } from "../../widgets/suggestions.js";
import { CONDITIONS, hasField, OPS, SEVERITIES } from "./model.js";

const DEVICES_ASKED = 50;
const NOTIFY = [["change", "when it begins and ends"], ["every", "at every violation"]];
const CLEAR_HINT = "Empty: at the threshold. A distance keeps a swinging value from many incidents.";
const GAP_HINT = "Empty: 5 times the device's set interval.";
const NOTIFY_HINT = "Of subscribers over MQTT and streams. Channels always get begin and end.";
const COOLDOWN_HINT = "Per device. Incidents are recorded nevertheless.";

// `rule` is what the fields hold at first, `known` has the channels. `changed()` is called after each change.
export class RuleForm {
  constructor(app, rule, { channels }, changed) {
    Object.assign(this, { app, rule, changed });
    this.condition = rule.condition;
    this.fields = this.makeFields(rule, channels);
    this.list = Object.values(this.fields);
    this.content = this.layOut(channels);
    this.content.addEventListener("input", () => this.update());
    this.content.addEventListener("change", () => this.update());
    this.update({ quiet: true });
  }

  makeFields(rule, channels) {
    const fields = { ...this.conditionFields(rule), ...this.scopeFields(rule), ...notificationFields(rule) };
    return { ...fields, channels: channelsField(channels, rule.channels) };
  }

  conditionFields(rule) {
    this.metrics = suggestingInput({ value: rule.metric, required: true, placeholder: "temp_c" });
    const number = (value) => textInput({ inputMode: "decimal", value: value ?? "" });
    const metric = field("Metric", this.metrics.input, { name: "metric" });
    metric.element.append(this.metrics.list);
    return {
      metric,
      op: field("Is", choice(OPS.map((op) => [op, op]), rule.op ?? ">", {}), { name: "op" }),
      threshold: field("Threshold", number(rule.threshold), { name: "threshold" }),
      for_s: durationField("For at least", { name: "for_s", seconds: rule.for_s, hint: "" }),
      clear_threshold: field("Clears at", number(rule.clear_threshold), { name: "clear_threshold", hint: CLEAR_HINT }),
      max_gap_s: durationField("A gap breaks it after", { name: "max_gap_s", seconds: rule.max_gap_s, hint: GAP_HINT }),
    };
  }

  scopeFields(rule) {
    const { input, list } = deviceInput(this.app, { value: rule.device_id ?? "" });
    input.addEventListener("change", () => this.suggestMetrics());
    const device = field("Device", input, { name: "device_id", hint: "Empty: all devices." });
    device.element.append(list);
    const tagInput = textInput({ value: rule.tag ?? "", placeholder: "any" });
    return { device_id: device, tag: field("Tag", tagInput, { name: "tag", hint: "Only events that carry it." }) };
  }

  layOut() {
    const row = (...names) => h("div", { class: "fields" }, names.map((name) => this.fields[name].element));
    return h("div", {},
      group("What is wrong", this.conditions(), row("metric", "op", "threshold", "for_s", "clear_threshold", "max_gap_s")),
      group("For whom", row("device_id", "tag")),
      group("Who hears of it", row("name", "severity", "notify", "cooldown_s"), this.fields.channels.element));
  }

  conditions() {
    const choose = (event) => { this.condition = event.target.value; };
    const radio = ({ name, title, text }) => h("label", { class: "option" },
      h("input", { type: "radio", name: "condition", value: name, checked: name === this.condition, onchange: choose }),
      h("span", {}, h("b", {}, title), h("small", {}, text)));
    return h("div", { class: "options", role: "radiogroup", "aria-label": "Condition" }, CONDITIONS.map(radio));
  }

  update({ quiet = false } = {}) {
    for (const [name, { element }] of Object.entries(this.fields)) element.hidden = !hasField(this.condition, name);
    if (this.condition !== "no_data" && ["==", "!="].includes(this.fields.op.value)) this.fields.clear_threshold.element.hidden = true;
    this.fields.for_s.setLabel(this.condition === "no_data" ? "Nothing for" : "For at least");
    if (!quiet) this.changed();
  }

  // What the fields say, with null for what is empty or hidden.
  read() {
    const { fields } = this;
    const shown = (name, value) => (fields[name].element.hidden ? null : value);
    return {
      ...this.rule,
      condition: this.condition,
      metric: textOf(fields.metric) ?? "",
      device_id: textOf(fields.device_id), tag: textOf(fields.tag), name: textOf(fields.name),
      op: shown("op", fields.op.value), threshold: shown("threshold", numberOf(fields.threshold)),
      clear_threshold: shown("clear_threshold", numberOf(fields.clear_threshold)),
      for_s: fields.for_s.seconds ?? 0, max_gap_s: shown("max_gap_s", fields.max_gap_s.seconds),
      cooldown_s: fields.cooldown_s.seconds ?? 0,
      severity: fields.severity.value, notify: fields.notify.value, channels: fields.channels.chosen,
    };
  }

  // What devices send: of the one that is named, else of the first ones.
  async suggestMetrics() {
    const device = textOf(this.fields.device_id);
    const found = await this.app.api.get("/v1/latest", { device_id: device, limit: DEVICES_ASKED }).catch(() => []);
    const names = [...new Set(found.flatMap(({ metrics }) => Object.keys(metrics)))].sort();
    this.metrics.suggest(names.map((value) => ({ value })));
  }

  // The field of a name, if it can be seen.
  shown(name) {
    const field = this.fields[name];
    return field && !field.element.hidden ? field : null;
  }

  clearErrors() {
    for (const { setError } of this.list) setError(null);
  }
}

function notificationFields(rule) {
  const name = textInput({ value: rule.name ?? "", placeholder: "Battery too hot" });
  return {
    name: field("Name", name, { name: "name" }),
    severity: field("Severity", choice(SEVERITIES.map((each) => [each, each]), rule.severity, {}), { name: "severity" }),
    notify: field("Notify", choice(NOTIFY, rule.notify, {}), { name: "notify", hint: NOTIFY_HINT }),
    cooldown_s: durationField("Then be quiet for", { name: "cooldown_s", seconds: rule.cooldown_s, hint: COOLDOWN_HINT }),
  };
}

// The channels as boxes; a rule may name some that do not exist any more.
function channelsField(channels, chosen) {
  const names = [...new Set([...channels, ...chosen])].sort();
  const boxes = names.map((name) => h("input", { type: "checkbox", value: name, checked: chosen.includes(name) }));
  const textOfBox = ({ value }) => (channels.includes(value) ? value : `${value} (does not exist)`);
  const list = boxes.map((box) => h("label", { class: "check" }, box, h("span", {}, textOfBox(box))));
  const none = h("p", { class: "hint" }, "There is no channel yet. ", h("a", { href: "#/channels" }, "Add one"), ", and alerts reach people.");
  const error = h("p", { class: "error", hidden: true });
  const content = names.length ? h("div", { class: "row" }, list) : none;
  return {
    name: "channels",
    element: h("div", { class: "field channels", role: "group", "aria-label": "Channels" },
      h("span", { class: "label" }, "Channels"), content, error),
    control: boxes[0] ?? none,
    get chosen() { return boxes.filter((box) => box.checked).map((box) => box.value); },
    setError: (text) => { error.textContent = text ?? ""; error.hidden = !text; },
  };
}
