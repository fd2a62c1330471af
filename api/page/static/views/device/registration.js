// What people say about a device: name, tags, attributes, profile, interval, time zone. And how to forget it.

import { dialog, field, showProblem, toast } from "../../lib/components.js";
import { h } from "../../lib/dom.js";

const CHECK_ZONES = typeof Intl.supportedValuesOf === "function";

// `onSaved(device)` is called with the API's new answer.
export function registration({ app, device, profiles }, onSaved) {
  const fields = fieldsOf(device, profiles);
  const message = h("p", { class: "error", role: "alert", hidden: true });
  const save = async (event) => {
    event.preventDefault();
    message.hidden = true;
    try {
      const saved = await app.api.send("PUT", pathOf(device), bodyOf(fields));
      toast("The registration is saved.", { kind: "good" });
      onSaved(saved);
    } catch (problem) {
      showProblem(problem, fields, message);
    }
  };
  const form = h("form", { onsubmit: save, noValidate: true }, h("div", { class: "fields" }, fields.map((each) => each.element)), message,
    h("div", { class: "actions" },
      h("button", { type: "button", class: "danger", onclick: () => forget(app, device) }, "Forget this device…"),
      h("button", { type: "submit", class: "main" }, device.registered ? "Save" : "Register")));
  if (!app.may("admin")) for (const control of form.elements) control.disabled = true;
  return h("section", {}, h("h2", {}, "Registration"), h("div", { class: "card pad" }, form));
}

// Each field has `read()`, its value for the API; fields that this version of the API does not know are left out.
function fieldsOf(device, profiles) {
  const text = (label, name, value, hint, more = {}) => field(label, h("input", { name, value: value ?? "", autocomplete: "off", ...more }), { hint });
  const options = [...profiles.keys()].map((name) => h("option", { value: name, selected: name === device.profile }, name));
  const named = text("Name", "name", device.name, "Shown instead of the id");
  const tags = text("Tags", "tags", device.tags.join(", "), "Separated by commas, for instance fleet:south");
  const profile = field("Profile", h("select", { name: "profile" }, options), { hint: "Ranges and units of its metrics" });
  const interval = text("Interval in seconds", "interval_s", device.interval_s, "Empty: that of the profile, or learned", { inputMode: "decimal" });
  const fields = [
    Object.assign(named, { read: () => named.value.trim() || null }),
    Object.assign(tags, { read: () => tags.value.split(",").map((tag) => tag.trim()).filter(Boolean) }),
    Object.assign(profile, { read: () => profile.value }),
    Object.assign(interval, { read: () => (interval.value.trim() ? Number(interval.value) : null) }),
  ];
  if ("tz" in device) fields.push(zoneField(device.tz));
  if ("attributes" in device) fields.push(attributesField(device.attributes));
  return fields;
}

function zoneField(value) {
  const zones = CHECK_ZONES ? h("datalist", { id: "zones" }, Intl.supportedValuesOf("timeZone").map((zone) => h("option", { value: zone }))) : null;
  const input = h("input", { name: "tz", value: value ?? "", list: "zones", autocomplete: "off" });
  const found = field("Time zone", input, { hint: "Of times without an offset; empty: UTC" });
  if (zones) found.element.append(zones);
  return Object.assign(found, { read: () => input.value.trim() || null });
}

// One `name = value` in each line; what looks like a number is one.
function attributesField(attributes) {
  const lines = Object.entries(attributes ?? {}).map(([name, value]) => `${name} = ${typeof value === "string" && isNumeric(value) ? `"${value}"` : value}`);
  const area = h("textarea", { name: "attributes", rows: 4, value: lines.join("\n"), spellcheck: false });
  const found = field("Attributes", area, { hint: "One in each line, for instance capacity_kwh = 80; quotes make a text of a number" });
  found.element.classList.add("wide");
  return Object.assign(found, { read: () => attributesOf(area.value) });
}

function attributesOf(text) {
  const pairs = text.split("\n").filter((line) => line.trim()).map((line) => line.split(/=(.*)/s));
  return Object.fromEntries(pairs.map(([name, value = ""]) => [name.trim(), valueOf(value.trim())]));
}

function valueOf(text) {
  const quoted = /^"(.*)"$/s.exec(text);
  if (quoted) return quoted[1];
  return isNumeric(text) ? Number(text) : text;
}

function isNumeric(text) {
  return text.trim() !== "" && Number.isFinite(Number(text));
}

function bodyOf(fields) {
  return Object.fromEntries(fields.map(({ name, read }) => [name, read()]));
}

function pathOf(device) {
  return `/v1/devices/${encodeURIComponent(device.device_id)}`;
}

async function forget(app, device) {
  const name = device.name ?? device.device_id;
  const withEvents = h("input", { type: "checkbox", id: "with-events" });
  const done = await dialog(`Forget ${name}?`, (close) => [
    h("p", {}, "Its registration, credentials and presence go, and its open incidents are resolved. When something of it is received, it exists again."),
    h("p", { class: "row" }, withEvents, h("label", { htmlFor: "with-events" }, "Delete all its events, too. Nothing brings them back.")),
    h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => close(), autofocus: true }, "Cancel"),
      h("button", { type: "button", class: "danger", onclick: () => close(true) }, "Forget")),
  ]);
  if (!done) return;
  try {
    await app.api.send("DELETE", pathOf(device), undefined, withEvents.checked ? { events: true } : {});
    toast(`${name} is forgotten.`, { kind: "good" });
    app.navigate("#/fleet");
  } catch (problem) {
    toast(problem.detail, { kind: "bad" });
  }
}
