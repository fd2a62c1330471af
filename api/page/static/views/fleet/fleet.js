// Every device: counts per state that filter, a search, and the list, trouble first.

import { emptyState } from "../../lib/components.js";
import { fill, h, setAttribute, setText } from "../../lib/dom.js";
import { count, plural, stateName } from "../../lib/format.js";
import { inOrder, profilesByName, unitOf } from "../../lib/metrics.js";
import { publishLines } from "../../lib/publish.js";
import { Devices } from "./devices.js";
import { List } from "./list.js";
import { countsOf, FILTERS, held, matching, sorted, SORTS } from "./order.js";
import { Sparks } from "./sparks.js";

const DRAW_MS = 500;  // Live changes are drawn twice a second at most.
const DRAW_SHARE = 15;  // Drawing takes a fifteenth of the time at most, however large the fleet is.
const TICK_MS = 1_000;
const ASK_MS = 300;
const COLUMNS = 3;  // Metrics beside the battery.
const BATTERY = "soc_percent";
const NAMES = { all: "devices", alerts: "with alerts" };

export const title = "Fleet";

export async function show(root, route, app) {
  const view = new FleetView(root, app, route.params);
  await view.start();
  return () => view.stop();
}

class FleetView {
  constructor(root, app, { state, q, sort }) {
    Object.assign(this, { root, app, profiles: new Map(), order: [], drawMs: 0 });
    this.filter = FILTERS.includes(state) ? state : "all";
    this.search = q ?? "";
    this.sort = Object.hasOwn(SORTS, sort) ? sort : "trouble";
    this.devices = new Devices(app, () => this.drawSoon());
    this.sparks = new Sparks(app, (device, path) => this.list.rows.get(device)?.setSpark(path));
    this.list = new List({
      unit: (device, metric) => unitOf(this.profiles.get(device.profile), metric),
      onVisible: (devices) => this.visible(devices),
      onHold: (isHeld) => isHeld || this.draw({ resort: true }),
    });
    this.build();
  }

  build() {
    this.tiles = new Map(FILTERS.map((filter) => [filter, this.tile(filter)]));
    this.input = h("input", { type: "search", value: this.search, placeholder: "Search by name, tag or id", "aria-label": "Search by name, tag or id",
      "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: false, oninput: () => this.searchFor(this.input.value) });
    const options = Object.entries(SORTS).map(([value, text]) => h("option", { value, selected: value === this.sort }, text));
    this.choice = h("select", { "aria-label": "Order", onchange: () => this.choose({ sort: this.choice.value }) }, options);
    this.count = h("span", { class: "soft", role: "status" });
    this.nothing = h("div", { hidden: true });
    this.content = [
      h("h1", { class: "unseen" }, "Fleet"),
      h("div", { class: "tiles counts", role: "group", "aria-label": "Filter by state" }, [...this.tiles.values()].map(({ button }) => button)),
      h("div", { class: "row find" }, this.input, this.choice, this.count), this.list.element, this.nothing];
  }

  tile(filter) {
    const number = h("strong");
    const text = h("span", { class: "soft" }, filter !== "all" && h("i", { class: `dot ${filter === "alerts" ? "firing" : filter}`, "aria-hidden": "true" }), NAMES[filter] ?? stateName(filter));
    const button = h("button", { type: "button", class: "tile", onclick: () => this.choose({ filter: this.filter === filter ? "all" : filter }) }, number, text);
    return { button, number };
  }

  async start() {
    addEventListener("keydown", this.onKey = (event) => this.key(event));
    fill(this.root, this.content);
    this.timer = setInterval(() => document.hidden || this.list.draw(), TICK_MS);
    const [profiles] = await Promise.all([profilesByName(this.app.api), this.devices.start()]);
    this.profiles = profiles;
    const text = this.search.trim();
    if (this.devices.isTruncated && text) await this.devices.search(text).catch(() => {});
    this.draw({ resort: true });
  }

  stop() {
    removeEventListener("keydown", this.onKey);
    clearInterval(this.timer);
    clearTimeout(this.drawing);
    clearTimeout(this.asking);
    this.devices.stop();
    this.sparks.destroy();
    this.list.destroy();
  }

  // "/" goes to the search, as on many pages.
  key(event) {
    if (event.key !== "/" || event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    this.input.focus();
  }

  searchFor(text) {
    clearTimeout(this.asking);
    this.choose({ search: text });
    if (this.devices.isTruncated && text.trim()) this.asking = setTimeout(() => this.devices.search(text.trim()).catch(() => {}), ASK_MS);
  }

  // A choice of the visitor: it is drawn at once, and the address says it.
  choose(choice) {
    Object.assign(this, choice);
    const state = this.filter === "all" ? null : this.filter;
    this.app.remember(["fleet"], { state, q: this.search, sort: this.sort === "trouble" ? null : this.sort });
    this.draw({ resort: true });
  }

  drawSoon() {
    if (!this.isBegun) this.draw();  // The first rows do not wait.
    this.isBegun = true;
    this.drawing ??= setTimeout(() => { this.drawing = null; this.draw(); }, Math.max(DRAW_MS, this.drawMs * DRAW_SHARE));
  }

  draw({ resort = false } = {}) {
    const started = performance.now();
    const all = this.devices.all;
    const found = matching(all, this.filter, this.search);
    this.order = this.list.isHeld && !resort ? held(this.order, found) : sorted(found, this.sort, Date.now());
    this.drawCounts({ ...countsOf(all), ...this.devices.states });
    this.list.setColumns(this.columnsOf(all));
    this.list.element.hidden = !found.length;
    this.list.set(this.order);
    setText(this.count, this.countText(all.length, found.length));
    this.drawNothing(all, found);
    this.drawMs = performance.now() - started;
  }

  countText(all, found) {
    if (!all) return "";
    return found === all ? plural(all, "device") : `${count(found)} of ${plural(all, "device")}`;
  }

  drawCounts(counts) {
    for (const [filter, { button, number }] of this.tiles) {
      setText(number, count(filter === "all" ? Math.max(counts.all, this.devices.total) : counts[filter]));
      setAttribute(button, "aria-pressed", String(this.filter === filter));
      button.classList.toggle("none", !counts[filter]);
    }
  }

  // The metrics that most devices have; once chosen they stay, so that nothing jumps.
  columnsOf(all) {
    if (this.columns?.length) return this.columns;
    const counts = new Map();
    for (const { latest } of all) for (const name of Object.keys(latest ?? {})) counts.set(name, (counts.get(name) ?? 0) + 1);
    counts.delete(BATTERY);
    const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, COLUMNS).map(([name]) => name);
    return (this.columns = inOrder(most));
  }

  drawNothing(all, found) {
    this.nothing.hidden = found.length > 0 || !this.devices.isComplete;
    if (this.nothing.hidden) return;
    const key = all.length ? "filtered" : "empty";
    if (this.nothing.dataset.shows === key) return;
    this.nothing.dataset.shows = key;
    fill(this.nothing, all.length ? this.noMatch() : emptyState("No device yet",
      "Send a first event with one of these lines: the device appears here by itself.", publishLines(this.app.info)));
  }

  noMatch() {
    const clear = () => {
      this.input.value = "";
      this.choose({ filter: "all", search: "" });
      this.input.focus();
    };
    return h("section", { class: "empty" }, h("h2", {}, "No device matches"), h("p", {}, "No name, tag or id of a device in this state has this text."),
      h("button", { type: "button", onclick: clear }, "Show all devices"));
  }

  visible(devices) {
    this.sparks.show(devices);
    this.app.live.watch(devices.map((each) => each.device_id));
  }
}
