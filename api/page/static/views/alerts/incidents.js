// The list of incidents, which follows the stream without moving under the pointer.

import { emptyState, pill, toast } from "../../lib/components.js";
import { fill, h, setText } from "../../lib/dom.js";
import { count, duration, number, plural } from "../../lib/format.js";
import { postLine } from "../../lib/publish.js";
import { Throttle } from "../../lib/throttle.js";
import { holdOf } from "../../widgets/keyed_list.js";
import { liveTable } from "../../widgets/live_table.js";
import { keepMoments, moment } from "../../widgets/moments.js";
import { button, deviceLink, moreRow } from "../../widgets/pieces.js";
import { acknowledge } from "./acknowledge.js";
import { IncidentList, ROWS_MAX } from "./incident_list.js";
import { conditionOf, incidentName } from "./words.js";

const REFRESH_MS = 1_000;  // However many alerts there are: the list is read at most once in this time,
const DRAW_MS = 500;  // and drawn at most once in this.
const LATE_MS_MIN = 60_000;  // An incident that was recorded so much after its beginning says so.

export class Incidents {
  constructor(app, place, filters, rules) {
    Object.assign(this, { app, place });
    this.rules = new Map(rules.map((rule) => [rule.id, rule]));
    this.list = new IncidentList(app.api, filters);
    this.table = liveTable("Incidents, last recorded first", this.columns(), ({ id }) => id);
    this.refresh = new Throttle(REFRESH_MS, () => this.read());
    this.drawing = new Throttle(DRAW_MS, () => this.draw());
    this.isHeld = holdOf(this.table.body, () => this.drawing.ask());
    this.newest = 0;  // The highest number that is drawn.
    this.waiting = button("", () => this.release(), { kind: "waiting" });
    this.waiting.hidden = true;
    this.empty = h("div", { hidden: true });
    this.more = button("Show older ones", () => this.readMore());
    this.note = h("p", { class: "hint", hidden: true }, `The ${count(ROWS_MAX)} that were recorded last are listed. Use the filters to see others.`);
    const waitingPlace = h("div", { role: "status", class: "waiting-place" }, this.waiting);
    fill(place, waitingPlace, this.table.element, this.empty, moreRow(this.more, this.note));
    this.stops = this.listen();
  }

  listen() {
    const { live } = this.app;
    return [
      ...["alert", "acknowledged", "resolved"].map((type) => live.on(type, (alert) => this.heard(type, alert))),
      live.on("status", ({ state }) => state === "live" && this.refresh.ask()),
      keepMoments(this.place),
      onVisible(() => this.refresh.ask()),
    ];
  }

  stop() {
    for (const each of this.stops) each();
    this.refresh.stop();
    this.drawing.stop();
  }

  // A hidden tab asks for nothing; it reads the list when it is looked at again.
  heard(type, alert) {
    if (document.hidden) return;
    if (!this.isHeld() && this.list.apply(type, alert)) this.drawing.ask();
    this.refresh.ask();
  }

  // The first time; a failure is the caller's to show.
  async load() {
    await this.list.refresh();
    this.draw();
  }

  async read() {
    try {
      await this.list.refresh();
      this.drawing.ask();
    } catch (problem) {
      if (problem.status === undefined) throw problem;  // Without an answer the next event or reconnection asks again.
    }
  }

  async readMore() {
    this.more.disabled = true;
    await this.list.more().catch((problem) => toast(problem.detail, { kind: "bad" }));
    this.more.disabled = false;
    this.release();
  }

  // Draw everything, also what waited for the pointer to leave.
  release() {
    this.newest = Infinity;
    this.draw();
  }

  draw() {
    const { rows } = this.list;
    const isFree = this.newest === Infinity || !this.isHeld();
    const shown = isFree ? rows : rows.filter(({ id }) => id <= this.newest);
    if (isFree) this.newest = rows[0]?.id ?? 0;
    this.showWaiting(rows.length - shown.length);
    this.table.draw(shown);
    this.table.element.hidden = !rows.length;
    this.more.hidden = !this.list.next;
    this.note.hidden = !this.list.isFull;
    this.showEmpty(!rows.length);
  }

  showWaiting(rows) {
    this.waiting.hidden = !rows;
    if (rows) setText(this.waiting, `Show ${plural(rows, "new incident")}`);
  }

  showEmpty(isEmpty) {
    this.empty.hidden = !isEmpty;
    if (isEmpty && !this.empty.firstChild) fill(this.empty, nothing(this.app, this.list.filters, this.rules.size > 0));
  }

  columns() {
    const { time } = this.app;
    return [
      { name: "Severity", class: "plain second", cell: ({ severity }) => pill(severity) },
      { name: "What", class: "plain first", wide: true, cell: (each) => [
        h("a", { class: "name", href: `#/alerts/${each.id}` }, incidentName(each)),
        h("small", {}, conditionOf(each, this.rules.get(each.rule_id))),
        each.muted && h("span", { class: "tag", title: "A silence keeps it from channels." }, "muted")] },
      { name: "Device", class: "id", cell: ({ device_id: id }) => deviceLink(id) },
      { name: "Began", cell: (each) => began(each, time) },
      { name: "Value", class: "number", cell: ({ opened_value: value }) => number(value) },
      { name: "State", class: "plain second", cell: (each) => stateCell(each) },
      { name: "", class: "buttons", cell: (each) => this.action(each) },
    ];
  }

  action(incident) {
    if (incident.state !== "firing" || !this.app.may("admin")) return null;
    const label = `Acknowledge ${incidentName(incident)} of ${incident.device_id}`;
    const act = async () => { if (await acknowledge(this.app, incident)) this.refresh.ask(); };
    return button("Acknowledge", act, { label });
  }
}

// Of buffered events the beginning lies before the moment in which it was found.
function began({ opened_at: at, recorded_at: found }, time) {
  const isLate = Date.parse(found) - Date.parse(at) > LATE_MS_MIN;
  return [moment(time, at), isLate && h("small", {}, "recorded ", moment(time, found))];
}

function stateCell({ state, acknowledged_by: by, opened_at: from, resolved_at: to }) {
  const after = state === "resolved" ? `after ${duration(Date.parse(to) - Date.parse(from))}` : null;
  return [pill(state), h("small", {}, after ?? (by && `by ${by}`))];
}

function nothing(app, filters, hasRules) {
  const isNarrow = filters.severity || filters.rule_id || filters.device_id;
  if (isNarrow) return emptyState("No incident fits these filters", "Choose others to see more.");
  if (hasRules) return emptyState("All is quiet", "No rule is violated, and no device is silent.");
  const line = postLine(app.info, "/v1/alerts", { metric: "temp_c", op: ">", threshold: 60 });
  const text = ["A rule says when something is wrong. ", h("a", { href: "#/rules/new" }, "Make one here"), ", or with:"];
  return emptyState("There is no rule yet", text, [{ label: "", line }]);
}

// Returns the function that ends it.
function onVisible(work) {
  const ended = new AbortController();
  document.addEventListener("visibilitychange", () => !document.hidden && work(), { signal: ended.signal });
  return () => ended.abort();
}
