// One rule, new or not: its form, and what it would have done.

import { toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { debounce } from "../../lib/throttle.js";
import { RuleForm } from "./form.js";
import { bodyOf, CONDITIONS, fieldOf, NEW_RULE, OPS, SEVERITIES, titleOf } from "./model.js";
import { Preview } from "./preview.js";

const QUIET_MS = 500;  // After the last change the back-test begins by itself.
const CHANNELS_MAX = 100;
// What the address of a new rule holds.
const GIVEN_TEXTS = ["condition", "device_id", "metric", "tag", "op", "name", "severity"];
const CHOICES = { condition: CONDITIONS.map(({ name }) => name), op: OPS, severity: SEVERITIES };
const GIVEN_NUMBERS = ["threshold", "clear_threshold", "for_s"];

export const title = (route) => (route.segments[1] === "new" ? "New rule" : "Rule");

export async function show(root, route, app) {
  const id = route.segments[1] === "new" ? null : route.segments[1];
  const path = `/v1/alerts/${encodeURIComponent(id)}`;
  const [rule, channels] = await Promise.all([
    id ? app.api.get(path) : { ...NEW_RULE, ...given(route.params) },
    app.api.get("/v1/channels", { limit: CHANNELS_MAX }),
  ]);
  const preview = new Preview(app, (problem) => point(problem, form, message));  // It does not take the focus.
  const again = debounce(QUIET_MS, () => preview.run(form.read()));
  const changed = () => {
    form.clearErrors();
    message.hidden = true;
    again();
    if (!id) app.remember(["rules", "new"], paramsOf(form.read()));  // Reloading, or logging in again, loses nothing.
  };
  const form = new RuleForm(app, rule, { channels: channels.map(({ name }) => name) }, changed);
  const message = h("p", { class: "error", role: "alert", hidden: true });
  fill(root, ...layOut(app, id, rule, form, message, preview, () => save(app, id && path, form, message)));
  preview.run(rule);
  form.suggestMetrics();
  return () => {
    again.cancel();
    preview.destroy();
  };
}

function layOut(app, id, rule, form, message, preview, save) {
  const submit = (event) => { event.preventDefault(); save(); };
  const actions = app.may("admin")
    ? h("div", { class: "actions" }, h("a", { class: "button", href: "#/rules" }, "Cancel"),
      h("button", { type: "submit", class: "main" }, id ? "Save" : "Create the rule"))
    : h("p", { class: "notice" }, "Your key only reads: you can try rules here, but not save them.");
  return [
    h("p", { class: "crumb" }, h("a", { href: "#/rules" }, "Rules"), " / ", id ? titleOf(rule) : "new"),
    h("div", { class: "head" }, h("h1", {}, id ? titleOf(rule) : "New rule")),
    h("div", { class: "columns rule" },
      h("form", { class: "form card pad", noValidate: true, onsubmit: submit }, form.content, message, actions),
      preview.element),
  ];
}

async function save(app, path, form, message) {
  try {
    const body = bodyOf(form.read());
    const saved = await (path ? app.api.send("PUT", path, body) : app.api.send("POST", "/v1/alerts", body));
    toast(`${titleOf(saved)} is saved. ${saved.enabled ? "It is in force." : "It is off."}`, { kind: "good" });
    app.navigate("#/rules");
  } catch (problem) {
    if (problem.status === undefined) throw problem;
    point(problem, form, message)?.control.focus();
  }
}

// Each fault at its field, the others in the form's message; returns the first field with a fault.
function point(problem, form, message) {
  const faults = problem.errors.map((fault) => ({ field: form.shown(fieldOf(fault)), text: fault.message }));
  for (const { field, text } of faults) field?.setError(text);
  const others = faults.filter(({ field }) => !field).map(({ text }) => text);
  message.textContent = problem.errors.length ? others.join("; ") : problem.detail;
  message.hidden = !message.textContent;
  return faults.find(({ field }) => field)?.field;
}

function paramsOf(rule) {
  const names = [...GIVEN_TEXTS, ...GIVEN_NUMBERS].filter((name) => rule[name] !== NEW_RULE[name]);
  return Object.fromEntries(names.map((name) => [name, rule[name]]));
}

function given(params) {
  const isPossible = (name) => params[name] && (CHOICES[name]?.includes(params[name]) ?? true);
  const texts = GIVEN_TEXTS.filter(isPossible).map((name) => [name, params[name]]);
  const numbers = GIVEN_NUMBERS.filter((name) => params[name]).map((name) => [name, Number(params[name])]);
  return Object.fromEntries([...texts, ...numbers.filter(([, value]) => !Number.isNaN(value))]);
}
