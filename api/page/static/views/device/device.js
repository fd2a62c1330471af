// One device: presence, a chart for each metric, events, losses, dead letters, registration.

import { emptyState } from "../../lib/components.js";
import { fill, h, setAttribute, setText } from "../../lib/dom.js";
import { profilesByName } from "../../lib/metrics.js";
import { publishLines } from "../../lib/publish.js";
import { DAY, rfc3339 } from "../../lib/time.js";
import { Charts } from "./charts.js";
import { Heading, notices, Tiles } from "./heading.js";
import { deadLetters, Events, lostEvents } from "./lists.js";
import { PresenceStrip } from "./presence.js";
import { fittingRange, isRange, Range, RANGES } from "./range.js";
import { registration } from "./registration.js";

const TICK_MS = 1_000;
const ZOOM_WAIT_MS = 200;  // A pinch or a wheel is many steps; the last one is read.
const SAME_MOVE_MS = 1_000;  // The browser's Back undoes a pinch or a wheel as a whole.
const REFRESH_MS_MIN = 2_000;  // Of the device itself, however many alerts it has.
const RULES_MAX = 1_000;
const INCIDENTS_MAX = 200;
const CHART_PX = 900;

export const title = (route) => route.segments[1];

export async function show(root, route, app) {
  const id = route.segments[1];
  const path = `/v1/devices/${encodeURIComponent(id)}`;
  const now = Date.now();
  const hasBefore = async (at) => (await app.api.get(`${path}/events`, { to_time: rfc3339(at), limit: 1 })).length > 0;
  const [device, profiles, latest, rules, incidents, [newest], fitting] = await Promise.all([
    app.api.get(path), profilesByName(app.api), app.api.get(`${path}/latest`), app.api.get("/v1/alerts", { limit: RULES_MAX }),
    app.api.get("/v1/incidents", { device_id: id, limit: INCIDENTS_MAX }), app.api.get(`${path}/events`, { limit: 1 }), isRange(route.params.range) ? null : fittingRange(now, hasBefore)]);
  const own = rules.filter((rule) => concerns(rule, device, newest?.tags ?? []));
  const view = new DeviceView(root, app, { device, profiles, latest: latest.metrics, rules: own, incidents }, new Range(route.params, now, fitting));
  view.start(path);
  return () => view.stop();
}

class DeviceView {
  constructor(root, app, { device, profiles, latest, rules, incidents }, range) {
    Object.assign(this, { root, app, device, profiles, range, wasLost: app.live.status.state === "connecting", movedAt: 0 });
    const profile = profiles.get(device.profile);
    const context = { app, device, profile, range };
    this.heading = new Heading(context);
    this.notices = h("div");
    this.tiles = new Tiles(context);
    this.bar = this.rangeBar();
    this.presence = new PresenceStrip(context);
    this.charts = new Charts({
      ...context, metrics: Object.keys(latest), rules, incidents, onView: (next) => this.zoom(next),
    });
    this.events = new Events(context);
    this.lost = h("section");
    this.rejected = h("section");
    this.form = h("div");
    this.tiles.update(latest);
    this.incidents = incidents;
  }

  start(path) {
    this.path = path;
    fill(this.root, this.heading.element, this.notices, this.tiles.element, this.bar, this.presence.element, this.charts.element,
      this.device.last_seen === null && !Object.keys(this.tiles.values).length ? this.empty() : null,
      this.events.element, h("div", { class: "halves" }, this.lost, this.rejected), this.form);
    this.drawDevice();
    this.drawForm();
    this.subscribe();
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.loadRange();
    this.loadOthers();
  }

  stop() {
    clearInterval(this.timer);
    clearTimeout(this.zoomTimer);
    clearTimeout(this.refreshing);
    for (const each of this.subscriptions) each();
    this.charts.destroy();
    this.presence.destroy();
    this.events.destroy();
  }

  subscribe() {
    const { live } = this.app;
    const mine = (handler) => (event) => event.device_id === this.device.device_id && handler(event);
    live.watch([this.device.device_id]);
    this.subscriptions = [
      live.on("latest", (events) => events.forEach(mine((event) => this.received(event)))),
      live.on("presence", mine((change) => this.changed(change))),
      ...["alert", "acknowledged", "resolved"].map((type) => live.on(type, mine(() => this.refreshSoon()))),
      live.on("status", (status) => this.linked(status)),
    ];
  }

  // After a break everything is read again: lines have gaps, and what was asked for meanwhile failed.
  linked({ state, missed }) {
    if (state === "live" && (this.wasLost || missed)) this.loadAll();
    if (state === "live") this.refreshSoon();
    this.wasLost = state === "connecting";
  }

  empty() {
    return emptyState("Nothing was received from this device", "Send its first event with one of these lines.", publishLines(this.app.info, this.device.device_id));
  }

  // A live event: newest values, the ends of the lines, the top of the list.
  received(event) {
    if (this.device.last_seen === null || Date.parse(event.received_at) > Date.parse(this.device.last_seen)) this.device.last_seen = event.received_at;
    this.tiles.update(Object.fromEntries(Object.entries(event.metrics).map(([name, value]) => [name, { value, timestamp: event.timestamp }])));
    this.charts.add(event);
    this.events.add(event);
  }

  changed({ state, since, last_seen: seen, ...change }) {
    Object.assign(this.device, { state, since, last_seen: seen ?? this.device.last_seen });
    this.presence.add({ state, since, ...change });
    this.drawDevice();
  }

  // Once a second: ages grow, and a live view moves on as soon as it is worth a pixel.
  tick() {
    const now = Date.now();
    this.heading.draw();
    this.tiles.draw(now);
    const { from, to } = this.range.view;
    if (!this.range.isLive || now - this.range.now < (to - from) / CHART_PX) return;
    this.range.now = now;
    this.presence.draw();
    this.charts.follow();
    this.drawRange();
  }

  // What the API says of the device now, at most every two seconds.
  refreshSoon() {
    this.refreshing ??= setTimeout(async () => {
      this.refreshing = null;
      await this.refresh().catch(() => {});  // The next event asks again.
    }, REFRESH_MS_MIN);
  }

  async refresh() {
    const [device, incidents] = await Promise.all([
      this.app.api.get(this.path), this.app.api.get("/v1/incidents", { device_id: this.device.device_id, limit: INCIDENTS_MAX })]);
    Object.assign(this.device, device);
    this.incidents.splice(0, this.incidents.length, ...incidents);
    this.drawDevice();
  }

  drawDevice() {
    this.heading.draw();
    fill(this.notices, notices(this.app, this.device, this.incidents, () => this.refresh()));
  }

  drawForm() {
    fill(this.form, registration(this, (saved) => {
      Object.assign(this.device, saved);
      this.drawDevice();
      this.drawForm();
    }));
  }

  rangeBar() {
    const buttons = Object.keys(RANGES).map((name) => h("button", { type: "button", onclick: () => this.choose(name) }, name.replace(/(\d+)/, "$1 ")));
    this.buttons = new Map(Object.keys(RANGES).map((name, i) => [name, buttons[i]]));
    this.span = h("span", { class: "soft", role: "status" });
    this.back = h("button", { type: "button", class: "main", onclick: () => this.zoom(null) }, "Back to live");
    return h("div", { class: "row range" }, h("div", { class: "segments", role: "group", "aria-label": "Range of time" }, buttons), this.back, this.span);
  }

  drawRange() {
    const { isLive, name, view } = this.range;
    for (const [each, button] of this.buttons) setAttribute(button, "aria-pressed", String(isLive && each === name));
    this.back.hidden = isLive;
    const { time } = this.app;
    const shown = view.to - view.from > 2 * DAY ? (at) => time.format(at, { day: "numeric", month: "short", year: "numeric" }) : (at) => time.short(at);
    setText(this.span, isLive ? `up to now, in ${time.zone}` : `${shown(view.from)} to ${shown(view.to)}, in ${time.zone}`);
  }

  choose(name) {
    this.range.now = Date.now();
    this.range.choose(name);
    this.moved();
  }

  // Null goes back to live.
  zoom(view) {
    this.range.now = Date.now();
    this.range.zoom(view);
    this.moved();
  }

  // The address says what is shown; what is there already is shown at once, the rest follows.
  moved() {
    this.app.remember(["devices", this.device.device_id], this.range.params, { replace: Date.now() - this.movedAt < SAME_MOVE_MS });
    this.movedAt = Date.now();
    this.charts.follow();
    this.drawRange();
    clearTimeout(this.zoomTimer);
    this.zoomTimer = setTimeout(() => this.loadAll(), ZOOM_WAIT_MS);
  }

  loadRange() {
    this.drawRange();
    return Promise.all([this.charts.load(), this.presence.load()]);
  }

  loadAll() {
    this.loadRange();
    this.loadOthers();
  }

  loadOthers() {
    const inPlace = (place, promise) => promise.then((content) => content && fill(place, content), (problem) => fill(place, h("p", { class: "soft" }, problem.detail ?? String(problem))));
    inPlace(this.events.place, this.events.load());
    inPlace(this.lost, lostEvents(this));
    inPlace(this.rejected, deadLetters(this));
  }
}

// Whether a rule looks at a device: it is for all, for this one, or for a tag, which its newest event carries.
function concerns({ enabled, device_id: id, tag }, device, tags) {
  return enabled && (id === null || id === device.device_id) && (tag === null || tags.includes(tag));
}
