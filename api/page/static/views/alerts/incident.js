// One incident: what happened, who knows of it, and the values around it.

import { failure, pill } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { duration, number } from "../../lib/format.js";
import { address } from "../../lib/router.js";
import { Throttle } from "../../lib/throttle.js";
import { rfc3339 } from "../../lib/time.js";
import { keepMoments, moment } from "../../widgets/moments.js";
import { button, deviceLink, factList, soft } from "../../widgets/pieces.js";
import { titleOf } from "../rules/model.js";
import { acknowledge } from "./acknowledge.js";
import { around, IncidentChart } from "./incident_chart.js";
import { addSilence } from "./silence_form.js";
import { conditionOf, incidentName, SILENT } from "./words.js";

const REFRESH_MS = 1_000;
const RULES_MAX = 1_000;
const CHANGES = ["alert", "acknowledged", "resolved"];
const LATE_MS_MIN = 10_000;  // An incident that was found so much after its beginning says so.

export const title = (route) => `Alert ${route.segments[1]}`;

export async function show(root, route, app) {
  const path = `/v1/incidents/${encodeURIComponent(route.segments[1])}`;
  const [incident, rules] = await Promise.all([app.api.get(path), app.api.get("/v1/alerts", { limit: RULES_MAX })]);
  const view = new IncidentView(app, path, incident, rules);
  fill(root, view.text, view.chartPlace);
  const stopMoments = keepMoments(root);
  return () => {
    stopMoments();
    view.stop();
  };
}

class IncidentView {
  constructor(app, path, incident, rules) {
    Object.assign(this, { app, path, rules });
    this.rule = rules.find(({ id }) => id === incident.rule_id);
    this.text = h("div", {});
    this.chartPlace = h("div", {});
    this.chart = incident.metric === null ? null : new IncidentChart(app, this.chartPlace, incident, this.rule);
    this.refresh = new Throttle(REFRESH_MS, () => this.read());
    this.draw(incident);
    const heard = (alert) => alert.incident_id === incident.id && this.refresh.ask();
    this.stops = CHANGES.map((type) => app.live.on(type, heard));
    this.stops.push(app.live.on("status", ({ state }) => state === "live" && this.refresh.ask()));
  }

  stop() {
    for (const each of this.stops) each();
    this.refresh.stop();
    this.chart?.destroy();
  }

  async read() {
    try {
      this.draw(await this.app.api.get(this.path));
    } catch (problem) {
      if (problem.status === undefined) throw problem;
      if (problem.status === 404) fill(this.text, failure(problem));  // Else the next change asks again.
    }
  }

  draw(incident) {
    if (!this.text.contains(document.activeElement)) this.drawText(incident);
    else this.text.addEventListener("focusout", () => this.refresh.ask(), { once: true });
    this.chart?.update(incident);
  }

  drawText(incident) {
    const { app, rule } = this;
    fill(this.text,
      h("p", { class: "crumb" }, h("a", { href: "#/alerts" }, "Alerts"), " / ", String(incident.id)),
      h("div", { class: "head" }, h("h1", {}, incidentName(incident)), pill(incident.state), pill(incident.severity),
        h("span", { class: "grow" }), this.buttons(incident)),
      incident.muted && mutedNotice(),
      h("div", { class: "columns" }, facts(incident, rule, app.time), history(incident, app.time)));
  }

  buttons(incident) {
    const { app, rules } = this;
    const chart = h("a", { class: "button", href: chartAddress(incident) }, "Device at that time");
    if (!app.may("admin") || incident.state === "resolved") return chart;
    const act = async (work) => { if (await work()) await this.changed(); };
    return [
      chart,
      button("Silence", () => act(() => addSilence(app, rules, incident))),
      incident.state === "firing" && button("Acknowledge", () => act(() => acknowledge(app, incident)), { kind: "main" }),
    ];
  }

  // The button that did it may be gone: the focus goes to the heading.
  async changed() {
    document.activeElement?.blur();
    await this.read();
    const heading = this.text.querySelector("h1");
    heading.tabIndex = -1;
    heading.focus();
  }
}

function mutedNotice() {
  return h("p", { class: "notice" }, "A silence keeps this incident from channels. ",
    h("a", { href: "#/alerts?show=silences" }, "See the silences"), ".");
}

function facts(incident, rule, time) {
  const { device_id: device, rule_id: id, opened_at: from, resolved_at: to } = incident;
  const late = Date.parse(incident.recorded_at) - Date.parse(from);
  return h("section", { class: "card pad" }, h("h2", { class: "first" }, "What"), factList([
    ["Device", deviceLink(device)],
    ["Rule", ruleLink(id, rule)],
    ["Condition", h("span", { class: "mono" }, conditionOf(incident, rule))],
    ["Value", number(incident.opened_value)],
    ["Began", [time.full(from), " (", moment(time, from), ")"]],
    ["Lasted", to ? duration(Date.parse(to) - Date.parse(from)) : "not resolved yet"],
    late > LATE_MS_MIN && ["Found", `${duration(late)} later: the event arrived late`],
  ]));
}

function ruleLink(id, rule) {
  if (id === SILENT) return "built in: devices that fall silent";
  return rule ? h("a", { href: `#/rules/${id}` }, titleOf(rule)) : `${id}, which was deleted`;
}

function history({ history: steps }, time) {
  return h("section", { class: "card pad" }, h("h2", { class: "first" }, "History"),
    h("ol", { class: "history" }, steps.map((step) => h("li", {}, pill(step.state), soft(time.full(step.at)), details(step)))));
}

function details({ value, event_id: event, by, note }) {
  return [
    value !== undefined && h("span", {}, `value ${number(value)}`),
    event && h("span", { class: "soft mono" }, `event ${event}`),
    by && h("span", {}, `by ${by}`),
    note && h("blockquote", {}, note),
  ];
}

function chartAddress(incident) {
  const { from, to } = around(incident);
  return address(["devices", incident.device_id], { from: rfc3339(from), to: rfc3339(to) });
}
