// What is known of the fleet: read from the API page by page, then kept current by the stream.

import { DEVICES_PAGE } from "../../early.js";
import { incidentName } from "../alerts/words.js";
import { searchText } from "./order.js";

export const DEVICES_MAX = 10_000;  // Of a larger fleet the page lists so many, and the API searches the rest.
const INCIDENTS_MAX = 500;  // The newest open ones give their names; of others the number is shown.
const UNKNOWN_MAX = 20;  // More new devices at once are read with the whole list.
const RELOAD_MS_MIN = 5_000;
const RELOAD_MS = 60_000;
const SECONDS_PER_READ = 20;  // A reload that takes 1 s happens every 20 s at most.

export class Devices {
  // `onChange` is called after every change; it may be called very often.
  constructor(app, onChange) {
    Object.assign(this, { app, onChange, byId: new Map(), isComplete: false, total: 0, states: {}, names: new Map() });
    this.unknown = new Set();
    this.searched = new Set();
    this.ended = new AbortController();
  }

  get all() {
    return [...this.byId.values()];
  }

  get isTruncated() {
    return this.total > DEVICES_MAX;
  }

  start() {
    const { live } = this.app;
    this.subscriptions = [
      live.on("latest", (events) => this.received(events)),
      live.on("presence", (change) => this.changed(change)),
      live.on("alert", (alert) => this.fired(alert)),
      live.on("resolved", (alert) => this.resolved(alert)),
      live.on("status", ({ state, missed }) => state === "live" && this.reloadSoon(missed ? 0 : RELOAD_MS_MIN)),
    ];
    return this.load();
  }

  stop() {
    this.ended.abort();
    clearTimeout(this.reloading);
    clearTimeout(this.asking);
    for (const each of this.subscriptions) each();
  }

  // Draws after the first page; values and later pages follow. Devices that are gone from the list are gone here, too.
  async load() {
    const { signal } = this.ended;
    const started = performance.now();
    if (!this.byId.size) await this.readNames(signal);
    const [{ open }] = await Promise.all([this.readIncidents(signal), this.readPages(signal)]);
    this.names = open;
    this.nameIncidents();
    this.isComplete = true;
    this.onChange();
    this.nextReload = Math.max(RELOAD_MS_MIN, (performance.now() - started) * SECONDS_PER_READ);
    this.reloadSoon(RELOAD_MS);
  }

  // The newest values take longer than everything else, so the first rows come without.
  async readNames(signal) {
    const { rows } = await this.app.api.page("/v1/devices", { limit: DEVICES_PAGE }, signal);
    for (const device of rows) this.put(device);
    if (rows.length) this.onChange();
  }

  async readPages(signal) {
    const seen = new Set();
    let page = await this.app.api.page("/v1/devices", { latest: true, limit: DEVICES_PAGE }, signal);
    for (;;) {
      for (const device of page.rows) seen.add(this.put(device).device_id);
      this.onChange();
      if (!page.next || seen.size >= DEVICES_MAX) break;
      page = await this.app.api.pageAt(page.next, signal);
    }
    const summary = page.next ? await this.app.api.get("/v1/devices/summary", {}, signal) : null;
    this.total = summary?.total ?? seen.size;
    this.states = summary?.states ?? {};  // Of a fleet that is not listed whole, as the API counts them.
    for (const id of this.byId.keys()) if (!seen.has(id) && !this.searched.has(id)) this.byId.delete(id);
  }

  // The newest open incident of each device.
  async readIncidents(signal) {
    const incidents = await this.app.api.get("/v1/incidents", { state: "open", limit: INCIDENTS_MAX }, signal);
    const open = new Map();
    for (const incident of incidents) if (!open.has(incident.device_id)) open.set(incident.device_id, incident);
    return { open };
  }

  nameIncidents() {
    for (const device of this.byId.values()) {
      const incident = device.open_incidents ? this.names.get(device.device_id) : undefined;
      device.severity = incident?.severity ?? null;
      device.trouble = incident ? incidentName(incident) : null;
    }
  }

  put(device) {
    const known = this.byId.get(device.device_id) ?? {};
    const latest = newest(known.latest, device.latest);
    const merged = Object.assign(known, device, { latest, text: searchText(device) });
    this.byId.set(device.device_id, merged);
    return merged;
  }

  reloadSoon(afterMs) {
    const wait = Math.max(afterMs, this.nextReload && afterMs ? this.nextReload : 0);
    const at = Date.now() + wait;
    if (this.reloading && this.reloadAt <= at) return;
    clearTimeout(this.reloading);
    this.reloadAt = at;
    this.reloading = setTimeout(() => this.reload(), wait);
  }

  async reload() {
    this.reloading = null;
    if (document.hidden) return this.reloadSoon(RELOAD_MS);
    try {
      return await this.load();
    } catch {
      return this.reloadSoon(RELOAD_MS);  // The bar says already that the server cannot be reached.
    }
  }

  received(events) {
    for (const event of events) {
      const device = this.byId.get(event.device_id);
      if (!device) continue;
      const values = Object.entries(event.metrics).map(([name, value]) => [name, { value, timestamp: event.timestamp }]);
      device.latest = newest(device.latest, Object.fromEntries(values));
      if (!device.last_seen || Date.parse(event.received_at) > Date.parse(device.last_seen)) device.last_seen = event.received_at;
    }
    this.onChange();
  }

  changed({ device_id: id, state, since, last_seen: seen }) {
    const device = this.byId.get(id);
    if (!device) return this.ask(id);
    Object.assign(device, { state, since, last_seen: seen ?? device.last_seen });
    return this.onChange();
  }

  // A storm of alerts costs one number and one name per device; the API's count follows.
  fired(alert) {
    const device = this.byId.get(alert.device_id);
    if (!device || alert.late) return;
    device.open_incidents = Math.max(1, device.open_incidents);
    device.severity = alert.severity;
    device.trouble = incidentName(alert);
    this.onChange();
    this.reloadSoon(RELOAD_MS_MIN);
  }

  resolved({ device_id: id }) {
    const device = this.byId.get(id);
    if (!device) return;
    device.open_incidents = Math.max(0, device.open_incidents - 1);
    if (!device.open_incidents) device.trouble = device.severity = null;
    this.onChange();
    this.reloadSoon(RELOAD_MS_MIN);
  }

  // Read a device that the list does not have yet.
  ask(id) {
    if (this.isTruncated) return;
    this.unknown.add(id);
    this.asking ??= setTimeout(() => this.readUnknown(), 100);
  }

  async readUnknown() {
    const ids = [...this.unknown];
    this.unknown.clear();
    this.asking = null;
    if (ids.length > UNKNOWN_MAX) return this.reloadSoon(0);
    await Promise.allSettled(ids.map(async (id) => {
      const path = `/v1/devices/${encodeURIComponent(id)}`;
      const [device, latest] = await Promise.all([
        this.app.api.get(path, {}, this.ended.signal), this.app.api.get(`${path}/latest`, {}, this.ended.signal)]);
      this.put({ ...device, latest: latest.metrics });
      this.total += 1;
    }));
    return this.onChange();
  }

  // Of a fleet that is not listed whole: ask the API for more devices with a text.
  async search(text) {
    const { rows } = await this.app.api.page("/v1/devices", { q: text, latest: true, limit: 100 }, this.ended.signal);
    for (const device of rows) this.searched.add(this.put(device).device_id);
    this.onChange();
  }
}

// By metric, the newer of two values. A metric may be named `constructor`.
function newest(before = {}, after = {}) {
  const found = Object.assign(Object.create(null), before);
  for (const [metric, next] of Object.entries(after)) {
    if (!found[metric] || Date.parse(next.timestamp) >= Date.parse(found[metric].timestamp)) found[metric] = next;
  }
  return found;
}
