// The events of a device with their delay, what was lost on the way, and what was rejected.

import { table } from "../../lib/components.js";
import { fill, h, setText } from "../../lib/dom.js";
import { count, duration, number, plural } from "../../lib/format.js";
import { inOrder } from "../../lib/metrics.js";
import { address } from "../../lib/router.js";
import { Throttle } from "../../lib/throttle.js";
import { rfc3339 } from "../../lib/time.js";
import { liveTable } from "../../widgets/live_table.js";

const EVENTS_FIRST = 15;
const EVENTS_MAX = 300;
const ROWS = 10;
const VALUES_MAX = 16;  // Of an event.
const DRAW_MS = 500;
const DELAY_MS_SHOWN = 1_000;  // Less is the ordinary way of an event.

// The newest events of the range, more at a button.
export class Events {
  constructor({ app, device, range }) {
    Object.assign(this, { app, range, rows: [], next: null });
    this.path = `/v1/devices/${encodeURIComponent(device.device_id)}/events`;
    this.list = liveTable("Events, newest first", columns(app.time), ({ event_id: eventId }) => eventId);
    this.list.element.classList.add("events");
    this.none = h("p", { class: "soft" });
    this.older = h("button", { type: "button", class: "rest", onclick: () => this.more() }, "Show older events");
    this.place = h("div");
    this.element = h("section", {}, h("h2", {}, "Events"), this.place);
    this.drawing = new Throttle(DRAW_MS, () => this.draw());
  }

  destroy() {
    this.drawing.stop();
  }

  async load() {
    const { from, to } = this.range.view;
    const until = this.range.isLive ? {} : { from_time: rfc3339(from), to_time: rfc3339(to) };
    this.show(await this.app.api.page(this.path, { limit: EVENTS_FIRST, ...until }), []);
  }

  async more() {
    this.show(await this.app.api.pageAt(this.next), this.rows);
  }

  show({ rows, next }, before) {
    this.rows = [...before, ...rows];
    this.next = this.rows.length < EVENTS_MAX ? next : null;
    this.draw();
  }

  // A live event stands at the top, if it is the newest.
  add(event) {
    if (!this.range.isLive || this.rows.some((each) => each.event_id === event.event_id)) return;
    this.rows = [event, ...this.rows].slice(0, Math.max(EVENTS_FIRST, this.rows.length));
    this.drawing.ask();
  }

  // Rows that stay are not made again, so what is selected or unfolded in them stays, too.
  draw() {
    if (this.list.element.parentNode !== this.place) fill(this.place, this.none, this.list.element, this.older);  // In place of an error.
    setText(this.none, this.rows.length ? "" : "No event in this time.");
    this.list.draw(this.rows);
    this.list.element.hidden = !this.rows.length;
    this.older.hidden = !this.next;
  }
}

function columns(time) {
  return [
    { name: "Time", class: "when", cell: ({ timestamp }) => h("time", { dateTime: timestamp, title: timestamp }, time.short(timestamp)) },
    { name: "Values", wide: true, cell: ({ metrics }) => values(metrics) },
    { name: "Tags", class: "minor", cell: ({ tags }) => tags.map((tag) => h("span", { class: "tag", title: tag }, tag)) },
    { name: "Delay", class: "number", cell: delay },
    { name: "Seq", class: "number minor", cell: ({ seq }) => (seq === null || seq === undefined ? "–" : count(seq)) },
    { name: "Event", class: "minor", cell: ({ event_id: id }) => h("span", { class: "mono soft" }, id) },
  ];
}

// Of an event with very many, the first ones; the others unfold.
function values(metrics) {
  const all = inOrder(Object.keys(metrics)).map((name) => h("span", { class: "value" }, h("span", { class: "soft" }, name), " ", number(metrics[name])));
  const more = all.splice(VALUES_MAX);
  return [all, more.length > 0 && h("details", {}, h("summary", {}, plural(more.length, "more value")), more)];
}

// How long after its own time an event was received.
function delay({ timestamp, received_at: received }) {
  const ms = Date.parse(received) - Date.parse(timestamp);
  if (ms < -DELAY_MS_SHOWN) return h("span", { class: "warn" }, `${duration(ms)} ahead`);
  if (ms < DELAY_MS_SHOWN) return `${Math.max(0, Math.round(ms))} ms`;
  return h("span", { class: ms > 60_000 ? "warn" : "" }, duration(ms));
}

// Events whose numbers are missing in the range.
export async function lostEvents({ app, device, range }) {
  const { from, to } = range.view;
  const path = `/v1/devices/${encodeURIComponent(device.device_id)}/gaps`;
  const { rows, next } = await app.api.page(path, { from_time: rfc3339(from), to_time: rfc3339(to), limit: ROWS });
  const heading = h("h2", {}, "Lost on the way");
  if (!rows.length) {
    const sends = device.completeness_percent !== null;
    return [heading, h("p", { class: "soft" }, sends ? "Nothing is missing in this time." : "This device does not number its events (seq), so losses cannot be seen.")];
  }
  return [heading, table("Events that are missing", [
    { name: "Between", cell: (gap) => `${app.time.short(gap.from_time)} and ${app.time.short(gap.to_time)}` },
    { name: "After seq", class: "number", cell: (gap) => count(gap.after_seq) },
    { name: "Missing", class: "number", cell: (gap) => count(gap.missing) },
  ], rows), next && h("p", { class: "soft" }, `The newest ${rows.length} are shown.`)];
}

// The newest dead letters of a device.
export async function deadLetters({ app, device }) {
  const params = { device_id: device.device_id };
  const { rows, next } = await app.api.page("/v1/rejected", { ...params, limit: ROWS });
  const heading = h("h2", {}, "Dead letters");
  if (!rows.length) return [heading, h("p", { class: "soft" }, "Nothing of this device was rejected.")];
  const all = h("a", { href: address(["dead-letters"], params) }, next ? "All of them" : plural(rows.length, "dead letter"));
  return [heading, table("Dead letters", [
    { name: "Received", class: "when", cell: (each) => app.time.short(each.received_at) },
    { name: "Reason", class: "fit", cell: (each) => h("span", { class: "mono" }, each.reason) },
    { name: "What is wrong", wide: true, cell: (each) => each.detail },
  ], rows), h("p", {}, all)];
}
