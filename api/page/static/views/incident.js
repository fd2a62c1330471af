// One incident: what happened, who knows of it, and the values around it.

import { failure, pill } from "../lib/components.js";
import { fill, h } from "../lib/dom.js";
import { duration, number } from "../lib/format.js";
import { keepMoments, moment } from "../lib/moments.js";
import { address } from "../lib/router.js";
import { Throttle } from "../lib/throttle.js";
import { rfc3339 } from "../lib/time.js";
import { acknowledge } from "./alerts/acknowledge.js";
import { around, IncidentChart } from "./alerts/incident_chart.js";
import { addSilence } from "./alerts/silence_form.js";
import { conditionOf, incidentName, SILENT } from "./alerts/words.js";

const REFRESH_MS = 1_000;
const CHANGES = ["alert", "acknowledged", "resolved"];

export const title = (route) => `Alert ${route.segments[1]}`;

export async function show(root, route, app) {
  const path = `/v1/incidents/${encodeURIComponent(route.segments[1])}`;
  const text = h("div", {});
  const chartPlace = h("div", {});
  const incident = await app.api.get(path);
  const chart = incident.metric === null ? null : new IncidentChart(app, chartPlace, incident);
  const draw = (found) => { drawText(text, found, app, () => refresh.ask()); chart?.update(found); };
  const refresh = new Throttle(REFRESH_MS, async () => app.api.get(path).then(draw, (problem) => gone(text, problem)));
  fill(root, text, chartPlace);
  draw(incident);
  const heard = (alert) => alert.incident_id === incident.id && refresh.ask();
  const stops = [
    ...CHANGES.map((type) => app.live.on(type, heard)),
    app.live.on("status", ({ state }) => state === "live" && refresh.ask()),
    keepMoments(root),
  ];
  return () => {
    for (const each of stops) each();
    refresh.stop();
    chart?.destroy();
  };
}

// Deleted meanwhile, or not to be read now; the next change asks again.
function gone(text, problem) {
  if (problem.status === 404) fill(text, failure(problem));
}

function drawText(place, incident, app, changed) {
  fill(place,
    h("p", { class: "crumb" }, h("a", { href: "#/alerts" }, "Alerts"), " / ", String(incident.id)),
    h("div", { class: "head" }, h("h1", {}, incidentName(incident)), pill(incident.state), pill(incident.severity), h("span", { class: "grow" }), buttons(incident, app, changed)),
    incident.muted && h("p", { class: "notice" }, "A silence keeps this incident from channels. ", h("a", { href: "#/alerts?show=silences" }, "See the silences"), "."),
    h("div", { class: "columns" }, facts(incident, app), history(incident, app)));
}

function buttons(incident, app, changed) {
  const chart = h("a", { class: "button", href: chartAddress(incident) }, "Device at that time");
  if (!app.may("admin") || incident.state === "resolved") return chart;
  const act = async (work) => { if (await work()) changed(); };
  return [
    chart,
    h("button", { type: "button", onclick: () => act(() => silenceOf(incident, app)) }, "Silence"),
    incident.state === "firing" && h("button", { type: "button", class: "main", onclick: () => act(() => acknowledge(app, incident)) }, "Acknowledge"),
  ];
}

async function silenceOf(incident, app) {
  const rules = await app.api.get("/v1/alerts", { limit: 1_000 });
  return addSilence(app, rules, incident);
}

function facts(incident, app) {
  const { device_id: device, rule_id: rule, opened_at: from, resolved_at: to } = incident;
  const late = Date.parse(incident.recorded_at) - Date.parse(from);
  return h("section", { class: "card pad" }, h("h2", { class: "first" }, "What"), h("dl", { class: "facts" }, [
    ["Device", h("a", { href: `#/devices/${encodeURIComponent(device)}` }, device)],
    ["Rule", rule === SILENT ? "built in: devices that fall silent" : h("a", { href: `#/rules/${encodeURIComponent(rule)}` }, incident.rule_name ?? rule)],
    ["Condition", h("span", { class: "mono" }, conditionOf(incident))],
    ["Value", number(incident.opened_value)],
    ["Began", [app.time.full(from), " (", moment(app.time, from), ")"]],
    ["Lasted", to ? duration(Date.parse(to) - Date.parse(from)) : "not resolved yet"],
    late > 10_000 && ["Found", `${duration(late)} later: the event arrived late`],
  ].filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function history(incident, app) {
  return h("section", { class: "card pad" }, h("h2", { class: "first" }, "History"),
    h("ol", { class: "history" }, incident.history.map((step) => h("li", {}, pill(step.state), h("span", { class: "soft" }, app.time.full(step.at)), ...details(step)))));
}

function details({ value, event_id: event, by, note }) {
  return [
    value !== undefined && h("span", {}, `value ${number(value)}`),
    event && h("span", { class: "soft mono" }, `event ${event}`),
    by && h("span", {}, `by ${by}`),
    note && h("blockquote", {}, note),
  ].filter(Boolean);
}

function chartAddress(incident) {
  const { from, to } = around(incident);
  return address(["devices", incident.device_id], { from: rfc3339(from), to: rfc3339(to) });
}
