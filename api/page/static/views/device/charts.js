// The charts of a device: one per metric, moved together, live at their end.

import { Chart } from "../../charts/chart.js";
import { intervalMs, intervalName } from "../../charts/interval.js";
import { gapMs, Series } from "../../charts/series.js";
import { fill, h, setText } from "../../lib/dom.js";
import { plural } from "../../lib/format.js";
import { inOrder, limitsOf, unitOf } from "../../lib/metrics.js";
import { rfc3339 } from "../../lib/time.js";

const MARGIN = 0.06;  // Of the view, read on both sides: lines do not end before the edge, and partial buckets lie outside.
const POINT_PX = 1.25;  // Half a page wide, a year has days.
const POINTS_MIN = 150;
const POINTS_MAX = 1_000;
const SHOWN_MAX = 16;  // Metrics at first; a button shows the rest.
const RELOAD_MS = 30_000;  // Live values are one event a second; the API has all of them.

export class Charts {
  // `context`: { app, device, profile, range, onView, metrics, rules, incidents }.
  constructor(context) {
    Object.assign(this, context);
    this.charts = new Map();
    this.step = 0;
    this.limit = SHOWN_MAX;
    this.element = h("section", { class: "charts", "aria-label": "Charts" });
    this.loading = null;
    this.build();
  }

  destroy() {
    this.loading?.abort();
    clearTimeout(this.timer);
    for (const each of this.charts.values()) each.chart.destroy();
    this.charts.clear();
  }

  build() {
    for (const each of this.charts.values()) each.chart.destroy();
    this.charts.clear();
    const names = inOrder(this.metrics);
    const cards = names.slice(0, this.limit).map((metric) => this.card(metric));
    const rest = names.length - cards.length;
    fill(this.element, cards, rest > 0 && h("button", { type: "button", class: "rest", onclick: () => this.showAll() }, `Show ${plural(rest, "more metric")}`));
  }

  showAll() {
    this.limit = Infinity;
    this.build();
    this.load();
  }

  card(metric) {
    const unit = unitOf(this.profile, metric);
    const note = h("span", { class: "soft" });
    const place = h("div");
    const chart = new Chart(place, {
      time: this.app.time, label: metric, unit, ...limitsOf(this.profile, metric), thresholds: this.thresholds(metric),
      onView: this.onView, onCursor: (at) => this.setCursor(at),
    });
    this.charts.set(metric, { chart, note });
    return h("figure", { class: "card chart" }, h("figcaption", {}, h("strong", {}, metric), unit && h("span", { class: "soft" }, unit), note), place);
  }

  thresholds(metric) {
    const of = this.rules.filter((rule) => rule.metric === metric && rule.condition === "threshold");
    return of.map((rule) => ({ value: rule.threshold, label: rule.name ?? `${rule.op} ${rule.threshold}`, severity: rule.severity }));
  }

  // When a rule on a metric fired.
  marks(metric) {
    const of = this.incidents.filter((incident) => incident.metric === metric);
    return of.map(({ opened_at: from, resolved_at: to }) => ({ from: Date.parse(from), to: to ? Date.parse(to) : this.range.now }));
  }

  setCursor(at) {
    for (const { chart } of this.charts.values()) chart.setCursor(at);
  }

  // Show the present view with what is there already.
  follow() {
    for (const { chart } of this.charts.values()) chart.setView(this.range.view);
  }

  // Read the values of the view; a later call takes the place of an earlier one.
  async load() {
    this.loading?.abort();
    clearTimeout(this.timer);
    const loading = (this.loading = new AbortController());
    this.element.setAttribute("aria-busy", "true");
    try {
      const names = [...this.charts.keys()];
      for (let i = 0; i < names.length; i += SHOWN_MAX) await this.loadSome(names.slice(i, i + SHOWN_MAX), loading.signal);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      for (const { note } of this.charts.values()) setText(note, problem.detail ?? String(problem));
    }
    if (loading.signal.aborted) return;
    this.element.removeAttribute("aria-busy");
    this.timer = setTimeout(() => this.reload(), RELOAD_MS);
  }

  async loadSome(metrics, signal) {
    if (!metrics.length) return;
    const { view } = this.range;
    const margin = (view.to - view.from) * MARGIN;
    const { body, headers } = await this.app.api.getWithHeaders("/v1/metrics/aggregate", {
      device_id: this.device.device_id, metric: metrics, from_time: rfc3339(view.from - margin), to_time: rfc3339(view.to + margin),
      interval: "auto", max_points: this.points(), stats: "avg,min,max,count", format: "columns", tz: this.app.time.zone,
    }, signal);
    const interval = headers.get("x-interval");
    this.step = intervalMs(interval);
    const groups = new Map([body].flat().map((group) => [group.metric ?? metrics[0], group]));
    for (const metric of metrics) this.show(metric, groups.get(metric), interval);
  }

  points() {
    const width = this.charts.values().next().value?.chart.width || 600;
    return Math.round(Math.min(POINTS_MAX, Math.max(POINTS_MIN, width / POINT_PX)));
  }

  show(metric, group, interval) {
    const { chart, note } = this.charts.get(metric);
    const gap = gapMs(this.step, this.device.expected_interval_s);
    chart.marks = this.marks(metric);
    chart.set(group ? Series.ofColumns(group, this.step, gap) : new Series({ step: this.step, gap }), this.range.view);
    setText(note, `mean and range per ${intervalName(interval)}`);
  }

  reload() {
    if (this.range.isLive && !document.hidden) this.load();
    else this.timer = setTimeout(() => this.reload(), RELOAD_MS);
  }

  // A live event: its values are drawn at the end of each line, whatever is shown now.
  add(event) {
    const at = Date.parse(event.timestamp);
    const { from, to } = this.range.view;
    for (const [metric, value] of Object.entries(event.metrics)) {
      this.charts.get(metric)?.chart.series.add(at, value, from - (to - from) * MARGIN);
    }
    const unknown = Object.keys(event.metrics).filter((metric) => !this.metrics.includes(metric));
    if (!unknown.length) return;
    this.metrics.push(...unknown);
    this.build();
    this.load();
  }
}
