// When a device was online, asleep, late or offline: a strip over the range of the charts.

import { strip } from "../../charts/strip.js";
import { pill } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { duration, number, stateName, STATES } from "../../lib/format.js";
import { rfc3339 } from "../../lib/time.js";

const CHANGES_MAX = 1_000;
const KNOWN_MIN = 0.95;

export class PresenceStrip {
  constructor({ app, device, range }) {
    Object.assign(this, { app, device, range, changes: [], isLoaded: false });
    this.place = h("div");
    this.legend = h("div", { class: "legend" });
    this.element = h("section", { class: "card presence", "aria-label": "Presence" },
      h("div", { class: "row" }, h("strong", { class: "grow" }, "Presence"), this.legend), this.place);
  }

  destroy() {
    this.loading?.abort();
  }

  // The changes in the view, and the one before it, which says in what state it begins.
  async load() {
    this.loading?.abort();
    const { signal } = (this.loading = new AbortController());
    const path = `/v1/devices/${encodeURIComponent(this.device.device_id)}/presence/history`;
    const { from, to } = this.range.view;
    const inside = { from_time: rfc3339(from), limit: CHANGES_MAX, ...(this.range.isLive ? {} : { to_time: rfc3339(to) }) };
    try {
      const [during, before] = await Promise.all([
        this.app.api.get(path, inside, signal), this.app.api.get(path, { to_time: rfc3339(from), limit: 1 }, signal)]);
      this.changes = [...before, ...during.reverse()];
      this.isLoaded = true;
      this.draw();
    } catch (problem) {
      if (problem.name !== "AbortError") fill(this.place, h("p", { class: "soft" }, problem.detail ?? String(problem)));
    }
  }

  add(change) {
    this.changes.push(change);
    if (this.changes.length > CHANGES_MAX) this.changes.shift();
    this.draw();
  }

  draw() {
    const { view, now } = this.range;
    const spans = this.changes.map((change, i) => this.span(change, this.changes[i + 1], now));
    fill(this.place, strip(spans, view, this.say(spans)));
    const shares = this.shares(spans, view).map(([state, text]) => h("span", {}, pill(state), " ", h("span", { class: "soft" }, text)));
    fill(this.legend, shares, h("span", { class: "soft" }, this.known(spans, view)));
  }

  span({ state, since, reason }, next, now) {
    const from = Date.parse(since);
    const to = next ? Date.parse(next.since) : Math.max(now, from);
    const title = `${stateName(state)} from ${this.app.time.short(from)} for ${duration(to - from)} (${reason})`;
    return { from, to, state, title };
  }

  // Changes are kept for some time only: of which part of the view the shares are, if not of nearly all.
  known(spans, view) {
    const from = Math.max(view.from, spans[0]?.from ?? view.to);
    const known = Math.min(view.to, this.range.now) - from;
    if (known <= 0) return this.isLoaded ? "not known in this time" : "";
    return known < KNOWN_MIN * (view.to - view.from) ? `known since ${this.app.time.short(from)}` : "";
  }

  // How much of the view a device was in each state, as far as it is known.
  shares(spans, view) {
    const sums = new Map();
    for (const { from, to, state } of spans) {
      const inside = Math.min(to, view.to) - Math.max(from, view.from);
      if (inside > 0) sums.set(state, (sums.get(state) ?? 0) + inside);
    }
    const whole = [...sums.values()].reduce((sum, each) => sum + each, 0);
    const shown = STATES.filter((state) => sums.has(state));
    return shown.map((state) => [state, `${number(roundedDown((100 * sums.get(state)) / whole))} %`]);
  }

  say(spans) {
    const last = spans[spans.length - 1];
    return last ? `Presence: ${this.shares(spans, this.range.view).map(([state, text]) => `${stateName(state)} ${text}`).join(", ")}` : "Presence is not known";
  }
}

// 100 means always.
function roundedDown(percent) {
  return percent >= 10 ? Math.floor(percent * 10) / 10 : Math.floor(percent * 100) / 100;
}
