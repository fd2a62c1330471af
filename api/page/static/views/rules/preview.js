// What a rule would have done: its back-test on stored events, drawn on the values of one device.

import { MetricChart } from "../../charts/metric_chart.js";
import { fill, h, setText } from "../../lib/dom.js";
import { count, duration, number, plural } from "../../lib/format.js";
import { DAY, rfc3339 } from "../../lib/time.js";
import { choice, segments } from "../../widgets/forms.js";
import { soft } from "../../widgets/pieces.js";
import { backtest } from "./backtest.js";
import { bodyOf, hasField } from "./model.js";

// Each with its button and its words.
const RANGES = [[DAY / 24, "1 h", "hour"], [DAY, "24 h", "24 hours"], [7 * DAY, "7 d", "7 days"], [30 * DAY, "30 d", "30 days"]];
const DEVICES_MAX = 100;  // To choose from.
const INCIDENTS_MAX = 50;  // Listed below the chart.
const FAULTY = "This rule cannot be tried: the form says why.";
const INCOMPLETE = "Choose a metric and a threshold to see which incidents this rule would have raised.";

export class Preview {
  // `onProblem(problem)` gets what the API has to say against the rule.
  constructor(app, onProblem) {
    Object.assign(this, { app, onProblem });
    this.span = DAY;
    this.abort = new AbortController();
    this.summary = h("p", { class: "summary", role: "status" }, INCOMPLETE);
    this.devices = h("div", { class: "of" });
    this.plot = h("div", { class: "chart-place", hidden: true });
    this.list = h("ol", { tabIndex: 0, "aria-label": "Incidents", hidden: true });  // The focus lets keys scroll it.
    this.element = h("section", { class: "card pad preview", "aria-label": "Back-test" },
      h("div", { class: "head" }, h("h2", { class: "first" }, "Back-test"), h("span", { class: "grow" }),
        segments("Range", RANGES, this.span, (span) => this.setRange(span))),
      this.summary, this.devices, this.plot, this.list);
    this.chart = new MetricChart(app, this.plot);
  }

  destroy() {
    this.abort.abort();
    this.chart.destroy();
  }

  setRange(span) {
    this.span = span;
    if (this.rule) this.run(this.rule);
  }

  // Evaluate a rule; what was under way is cancelled.
  async run(rule) {
    this.abort.abort();
    this.abort = new AbortController();
    this.rule = rule;
    if (!isComplete(rule)) return this.clear(INCOMPLETE);
    const { signal } = this.abort;
    const view = { from: Date.now() - this.span, to: Date.now() };
    this.element.classList.add("busy");
    try {
      const body = { rule: { ...bodyOf(rule), enabled: true }, from_time: rfc3339(view.from), to_time: rfc3339(view.to) };
      await this.show(rule, view, await backtest(this.app.api, body, signal, (progress) => this.showProgress(progress)), signal);
    } catch (problem) {
      if (signal.aborted) return undefined;
      if (problem.status === undefined) throw problem;
      this.clear(problem.errors.length ? FAULTY : problem.detail);
      this.onProblem(problem);
    }
    this.element.classList.remove("busy");
    return undefined;
  }

  clear(text) {
    setText(this.summary, text);
    fill(this.devices);
    this.list.hidden = this.plot.hidden = true;
    this.element.classList.remove("busy");
  }

  showProgress({ events, expected }) {
    setText(this.summary, expected ? `${count(events)} of about ${count(expected)} events …` : "Reading events …");
  }

  async show(rule, view, result, signal) {
    const names = result.devices.toSorted((a, b) => b.incidents - a.incidents).map(({ device_id: id }) => id);
    const device = rule.device_id ?? (names.includes(this.device) ? this.device : names[0] ?? (await this.anyDevice(rule.metric)));
    if (signal.aborted) return;
    setText(this.summary, summaryOf(result, RANGES.find(([span]) => span === this.span)[2]));
    this.showDevices([...new Set([...names.slice(0, DEVICES_MAX), device])].filter(Boolean), device, (id) => this.draw(rule, view, result, id));
    await this.draw(rule, view, result, device);
  }

  // One that sends the metric, to show its values where nothing would have fired.
  async anyDevice(metric) {
    const [found] = await this.app.api.get("/v1/latest", { metric, limit: 1 }).catch(() => []);
    return found?.device_id;
  }

  showDevices(names, device, pick) {
    if (names.length < 2) return fill(this.devices, device && h("b", {}, device));
    const pairs = names.map((id) => [id, id]);
    return fill(this.devices, choice(pairs, device, { "aria-label": "Device on the chart", onchange: (event) => pick(event.target.value) }));
  }

  async draw(rule, view, result, device) {
    this.device = device;
    this.plot.hidden = !device;
    const own = result.incidents.filter(({ device_id: id }) => id === device);
    this.list.hidden = !own.length;
    fill(this.list, own.slice(0, INCIDENTS_MAX).map((each) => incidentLine(each, this.app.time)),
      result.truncated && h("li", { class: "soft" }, "Only the first 1,000 incidents are listed."));
    if (!device) return;
    const marks = own.map(({ opened_at: from, resolved_at: to }) => ({ from: Date.parse(from), to: to ? Date.parse(to) : view.to }));
    await this.chart.show({ deviceId: device, metric: rule.metric, view, marks, thresholds: linesOf(rule) });
  }
}

// Whether there is enough to ask the API; the rest is its business to judge.
function isComplete(rule) {
  if (!rule.metric) return false;
  return hasField(rule.condition, "threshold") ? rule.threshold !== null : rule.for_s > 0;
}

function linesOf({ condition, threshold, clear_threshold: clear, severity }) {
  if (condition !== "threshold" || typeof threshold !== "number") return [];
  return [{ value: threshold, label: "fires", severity }, ...(clear === null ? [] : [{ value: clear, label: "", severity: "info" }])];
}

function summaryOf(result, range) {
  const by = result.time === "received_at" ? " It goes by time of receipt, and knows nothing of announced sleep." : "";
  const read = `${plural(result.events, "event")} of the last ${range}.${by}`;
  if (!result.events) return `No event of the last ${range} has this metric.`;
  if (!result.incidents_total) return `It would not have fired: ${read}`;
  const where = result.devices.length === 1 ? "" : ` on ${plural(result.devices.length, "device")}`;
  return `${plural(result.incidents_total, "incident")}${where}, firing for ${duration(result.firing_s * 1000)} in all: ${read}`;
}

function incidentLine({ opened_at: from, opened_value: value, resolved_at: to }, time) {
  const lasted = to ? duration(Date.parse(to) - Date.parse(from)) : "still firing";
  return h("li", {}, h("span", {}, time.short(from)), soft(lasted), value !== null && soft(`value ${number(value)}`));
}
