// Dead letters: what was rejected and why, as it came, and its replay.

import { emptyState, failure, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { bytes, count, plural } from "../../lib/format.js";
import { postLine } from "../../lib/publish.js";
import { debounce } from "../../lib/throttle.js";
import { choice } from "../../widgets/forms.js";
import { holdOf } from "../../widgets/keyed_list.js";
import { liveTable } from "../../widgets/live_table.js";
import { keepMoments, moment } from "../../widgets/moments.js";
import { deviceInput } from "../../widgets/suggestions.js";
import { showPayload } from "./payload.js";
import { replayAll, replayOne } from "./replay.js";

export const title = "Dead letters";

const PAGE_ROWS = 100;
const ROWS_MAX = 1_000;
const REFRESH_MS = 15_000;  // Rejections are not in the stream.
const QUIET_MS = 250;
const NAMES = ["reason", "device_id", "door", "replayed"];
const DOORS = [["", "Any door"], ["mqtt", "MQTT"], ["http", "HTTP"]];
const REPLAYED = [["", "Replayed or not"], ["false", "Not replayed"], ["true", "Replayed"]];

export async function show(root, route, app) {
  const view = new DeadLetters(app, route.params);
  fill(root, view.element);
  await view.load();
  const timer = setInterval(() => !document.hidden && view.refresh(), REFRESH_MS);
  const stop = keepMoments(root);
  return () => {
    clearInterval(timer);
    stop();
  };
}

class DeadLetters {
  constructor(app, params) {
    this.app = app;
    this.filters = Object.fromEntries(NAMES.map((name) => [name, params[name] || null]));
    this.rows = [];
    this.reasons = h("div", { class: "row reasons", role: "group", "aria-label": "Reasons" });
    this.all = h("div", { class: "row grow end" });
    this.table = liveTable("Dead letters", this.columns(), ({ id }) => id);
    this.isHeld = holdOf(this.table.body, () => null);
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.readMore() }, "Show older ones");
    this.empty = h("div", { hidden: true });
    this.element = h("div", {}, h("div", { class: "head" }, h("h1", {}, "Dead letters")),
      h("p", { class: "soft lead" }, "What was rejected is kept as it came. Mend the device, its registration or its profile, then replay: what is right now is stored with its first time of arrival."),
      this.reasons, this.controls(), this.table.element, this.empty, h("div", { class: "row more" }, this.more));
  }

  controls() {
    const { input, list } = deviceInput(this.app, { type: "search", value: this.filters.device_id ?? "", placeholder: "Any device", "aria-label": "Device" });
    input.addEventListener("input", debounce(QUIET_MS, () => this.narrow("device_id", input.value.trim())));
    return h("div", { class: "row filters", role: "search", "aria-label": "Dead letters" }, input, list,
      choice(DOORS, this.filters.door ?? "", { "aria-label": "Door", onchange: (event) => this.narrow("door", event.target.value) }),
      choice(REPLAYED, this.filters.replayed ?? "", { "aria-label": "Replay", onchange: (event) => this.narrow("replayed", event.target.value) }), this.all);
  }

  narrow(name, value) {
    this.filters[name] = value || null;
    this.app.remember(["dead-letters"], this.filters);
    this.rows = [];
    return this.load().catch((problem) => fill(this.empty, failure(problem)));
  }

  async load() {
    const { device_id: device, door } = this.filters;
    const [summary, { rows, next }] = await Promise.all([
      this.app.api.get("/v1/rejected/summary", { device_id: device, door }),
      this.app.api.page("/v1/rejected", { ...this.filters, limit: PAGE_ROWS }),
    ]);
    this.summary = summary;
    const oldest = rows.at(-1)?.id ?? 0;
    const older = next ? this.rows.filter(({ id }) => id < oldest) : [];
    if (!older.length) this.next = next;
    this.rows = [...rows, ...older].slice(0, ROWS_MAX);
    this.draw();
  }

  // In the background: nothing moves while somebody points at the list.
  refresh() {
    if (!this.isHeld()) this.load().catch(() => null);
  }

  async readMore() {
    this.more.disabled = true;
    try {
      const { rows, next } = await this.app.api.pageAt(this.next);
      this.rows = [...this.rows, ...rows].slice(0, ROWS_MAX);
      this.next = next;
      this.draw();
    } catch (problem) {
      toast(problem.detail, { kind: "bad" });
    }
    this.more.disabled = false;
  }

  draw() {
    this.table.draw(this.rows);
    this.table.element.hidden = !this.rows.length;
    this.more.hidden = !this.next || this.rows.length >= ROWS_MAX;
    fill(this.reasons, this.reasonButtons());
    fill(this.all, this.replayButton());
    this.empty.hidden = this.rows.length > 0;
    if (!this.rows.length) fill(this.empty, this.nothing());
  }

  // Drawn again after a press: the focus goes to the same reason.
  reasonButtons() {
    const focused = this.reasons.contains(document.activeElement) ? document.activeElement.dataset.reason : null;
    const button = (reason, text, total) => h("button", { type: "button", "data-reason": reason, "aria-pressed": String((this.filters.reason ?? "") === reason),
      onclick: () => this.narrow("reason", reason) }, text, h("b", {}, count(total)));
    const buttons = [button("", "All", this.summary.total), ...Object.entries(this.summary.reasons).map(([reason, total]) => button(reason, reason, total))];
    if (focused !== null) setTimeout(() => buttons.find((each) => each.dataset.reason === focused)?.focus());
    return buttons;
  }

  replayButton() {
    if (!this.app.may("admin") || !this.rows.some((row) => row.replayed_at === null)) return null;
    const text = this.filters.reason ? `Replay all with the reason ${this.filters.reason}` : "Replay all";
    const act = async () => { if (await replayAll(this.app, this.filters)) await this.load(); };
    return h("button", { type: "button", onclick: act }, text);
  }

  columns() {
    const { time } = this.app;
    const device = (id) => (id ? h("a", { href: `#/devices/${encodeURIComponent(id)}` }, id) : h("span", { class: "soft" }, "unknown"));
    return [
      { name: "Received", class: "plain", cell: ({ received_at: at }) => moment(time, at) },
      { name: "Device", class: "plain", cell: ({ device_id: id, door }) => [device(id), " ", h("span", { class: "tag" }, door)] },
      { name: "Reason", class: "plain first", wide: true, cell: ({ reason, detail, item }) => [h("b", {}, reason), h("small", {}, detail, item === null ? "" : ` (item ${item})`)] },
      { name: "Payload", cell: (row) => h("button", { type: "button", class: "small", "aria-label": `Payload of dead letter ${row.id}, ${bytes(row.size_bytes)}`, onclick: () => showPayload(this.app, row) }, bytes(row.size_bytes)) },
      { name: "Replayed", cell: ({ replayed_at: at }) => (at ? moment(time, at) : h("span", { class: "soft" }, "no")) },
      { name: "", class: "buttons", cell: (row) => this.app.may("admin") && h("button", { type: "button", "aria-label": `Replay dead letter ${row.id}`, onclick: () => this.replay(row) }, "Replay") },
    ];
  }

  async replay(row) {
    if (await replayOne(this.app, row)) await this.load();
  }

  nothing() {
    if (NAMES.some((name) => this.filters[name])) return emptyState("No dead letter fits these filters", "Choose others to see more.");
    return emptyState("There are no dead letters", `Everything that arrived was understood.${this.app.info.rejected_days ? ` Dead letters are kept for ${plural(this.app.info.rejected_days, "day")}.` : ""} This one would be rejected:`,
      [{ label: "", line: postLine(this.app.info, "/v1/events", { device_id: "my-device", metrics: { soc_percent: 120 } }) }]);
  }
}
