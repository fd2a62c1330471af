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
import { button, deviceLink, moreRow, soft, tag, viewHead } from "../../widgets/pieces.js";
import { deviceInput } from "../../widgets/suggestions.js";
import { showPayload } from "./payload.js";
import { replayAll, replayOne } from "./replay.js";

export const title = "Dead letters";

const LEAD = "What was rejected is kept as it came. Mend the device, its registration or its profile, then replay:"
  + " what is right now is stored with its first time of arrival.";
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
    this.more = button("Show older ones", () => this.readMore());
    this.empty = h("div", { hidden: true });
    this.element = h("div", {}, viewHead("Dead letters"), h("p", { class: "soft lead" }, LEAD),
      this.reasons, this.controls(), this.table.element, this.empty, moreRow(this.more));
  }

  controls() {
    const { filters } = this;
    const props = { type: "search", value: filters.device_id ?? "", placeholder: "Any device", "aria-label": "Device" };
    const { input, list } = deviceInput(this.app, props);
    const select = (name, label, pairs) => {
      const onchange = (event) => this.narrow(name, event.target.value);
      return choice(pairs, filters[name] ?? "", { "aria-label": label, onchange });
    };
    input.addEventListener("input", debounce(QUIET_MS, () => this.narrow("device_id", input.value.trim())));
    return h("div", { class: "row filters", role: "search", "aria-label": "Dead letters" }, input, list,
      select("door", "Door", DOORS), select("replayed", "Replay", REPLAYED), this.all);
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
    const { total, reasons } = this.summary;
    const buttons = [["", total], ...Object.entries(reasons)].map(([reason, letters]) => this.reasonButton(reason, letters));
    if (focused !== null) setTimeout(() => buttons.find((each) => each.dataset.reason === focused)?.focus());
    return buttons;
  }

  reasonButton(reason, letters) {
    const made = button([reason || "All", h("b", {}, count(letters))], () => this.narrow("reason", reason));
    made.dataset.reason = reason;
    made.setAttribute("aria-pressed", String((this.filters.reason ?? "") === reason));
    return made;
  }

  replayButton() {
    if (!this.app.may("admin") || !this.rows.some((row) => row.replayed_at === null)) return null;
    const text = this.filters.reason ? `Replay all with the reason ${this.filters.reason}` : "Replay all";
    const act = async () => { if (await replayAll(this.app, this.filters)) await this.load(); };
    return button(text, act);
  }

  columns() {
    const { time } = this.app;
    return [
      { name: "Received", class: "plain", cell: ({ received_at: at }) => moment(time, at) },
      { name: "Device", class: "fit plain", cell: ({ device_id: id, door }) => [id ? deviceLink(id) : soft("unknown"), " ", tag(door)] },
      { name: "Reason", class: "plain first", wide: true, cell: reasonCell },
      { name: "Payload", cell: (row) => this.payloadButton(row) },
      { name: "Replayed", cell: ({ replayed_at: at }) => (at ? moment(time, at) : soft("no")) },
      { name: "", class: "buttons", cell: (row) => this.replayOneButton(row) },
    ];
  }

  replayOneButton(row) {
    return this.app.may("admin") && button("Replay", () => this.replay(row), { label: `Replay dead letter ${row.id}` });
  }

  payloadButton(row) {
    const size = bytes(row.size_bytes);
    return button(size, () => showPayload(this.app, row), { kind: "small", label: `Payload of dead letter ${row.id}, ${size}` });
  }

  async replay(row) {
    if (await replayOne(this.app, row)) await this.load();
  }

  nothing() {
    if (NAMES.some((name) => this.filters[name])) return emptyState("No dead letter fits these filters", "Choose others to see more.");
    const { rejected_days: days } = this.app.info;
    const kept = days ? ` Dead letters are kept for ${plural(days, "day")}.` : "";
    return emptyState("There are no dead letters", `Everything that arrived was understood.${kept} This one would be rejected:`,
      [{ label: "", line: postLine(this.app.info, "/v1/events", { device_id: "my-device", metrics: { soc_percent: 120 } }) }]);
  }
}

function reasonCell({ reason, detail, item }) {
  return [h("b", {}, reason), h("small", {}, detail, item === null ? "" : ` (item ${item})`)];
}
