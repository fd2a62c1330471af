// The values of the metric before, during and after an incident.

import { MetricChart } from "../../charts/metric_chart.js";
import { h } from "../../lib/dom.js";
import { isRate } from "./words.js";

const MARGIN_MS_MIN = 15 * 60_000;
const READ_MS = 10_000;  // While it is open, values are read at most so often.

export class IncidentChart {
  constructor(app, place, incident, rule) {
    this.lines = isRate(rule) || incident.threshold === null ? [] : [{ value: incident.threshold, label: "", severity: incident.severity }];
    const card = h("section", { class: "card pad incident-chart", "aria-label": "Values" }, h("h2", { class: "first" }, incident.metric));
    place.append(card);
    this.chart = new MetricChart(app, card);
    this.readAt = 0;
  }

  // Draw the incident as it is now.
  update(incident) {
    const marks = [{ from: Date.parse(incident.opened_at), to: endOf(incident) }];
    if (Date.now() - this.readAt < READ_MS && incident.state !== "resolved") return this.chart.mark(marks);
    this.readAt = Date.now();
    const { device_id: deviceId, metric } = incident;
    return this.chart.show({ deviceId, metric, view: around(incident), marks, thresholds: this.lines }).catch(() => null);
  }

  destroy() {
    this.chart.destroy();
  }
}

function endOf({ resolved_at: at }) {
  return at ? Date.parse(at) : Date.now();
}

// From a while before an incident to a while after it.
export function around(incident) {
  const from = Date.parse(incident.opened_at);
  const margin = Math.max((endOf(incident) - from) / 2, MARGIN_MS_MIN);
  return { from: from - margin, to: Math.min(endOf(incident) + margin, Date.now()) };
}
