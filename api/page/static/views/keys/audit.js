// The audit: who did what, and who failed to log in.

import { failure, table } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { debounce } from "../../lib/throttle.js";
import { choice } from "../../widgets/forms.js";
import { button, moreRow, partHead, soft } from "../../widgets/pieces.js";
import { pageRows } from "./page_rows.js";

const ROWS_MAX = 1_000;
const QUIET_MS = 250;
// The acts that people look for; all others are under "every act".
const ACTIONS = ["login.failed", "session.begin", "key.create", "key.revoke", "device.create", "device.rotate", "device.revoke",
  "rule.create", "rule.update", "rule.delete", "incident.acknowledge", "silence.create", "silence.delete", "channel.create",
  "channel.update", "channel.delete", "rejected.replay"];

// Draws it; returns a function that reads it again.
export function audit(app, place) {
  const filters = { action: null, actor: null, target: null };
  const list = h("div", {});
  const draw = (rows, next) => fill(list,
    rows.length ? table("Audit", columns(app.time), rows) : soft("Nothing was done that these filters select."),
    next && rows.length < ROWS_MAX && moreRow(button("Show more", () => more(rows, next))));
  const more = async (rows, next) => {
    const page = await app.api.pageAt(next);
    draw([...rows, ...page.rows], page.next);
  };
  const reload = async () => {
    try {
      const { rows, next } = await app.api.page("/v1/audit", { ...filters, limit: pageRows() });
      draw(rows, next);
    } catch (problem) {
      fill(list, failure(problem, reload));
    }
  };
  fill(place, partHead("Audit"), controls(filters, reload), list);
  return reload;
}

function controls(filters, reload) {
  const soon = debounce(QUIET_MS, reload);
  const narrow = (name, load) => (event) => {
    filters[name] = event.target.value.trim() || null;
    load();
  };
  const text = (name, label) => h("input", { type: "search", placeholder: label, "aria-label": label, oninput: narrow(name, soon) });
  const acts = [["", "Every act"], ...ACTIONS.map((each) => [each, each])];
  return h("div", { class: "row filters", role: "search", "aria-label": "Audit" },
    choice(acts, "", { "aria-label": "Act", onchange: narrow("action", reload) }),
    text("actor", "Who, such as key:admin"), text("target", "On what"));
}

function columns(time) {
  return [
    { name: "When", class: "fit plain", cell: ({ at }) => h("time", { datetime: at, title: time.full(at) }, time.short(at)) },
    { name: "Who", class: "fit plain", cell: ({ actor, address }) => [h("b", {}, actor), h("small", {}, address)] },
    { name: "What", class: "fit plain", cell: ({ action }) => action },
    { name: "On", class: "id plain", cell: ({ target }) => (target ? h("span", { title: target }, target) : "–") },
    { name: "Details", class: "plain", wide: true, cell: ({ details }) => folded(details ?? {}) },
  ];
}

// The names of the details, which open to their values.
function folded(details) {
  const names = Object.keys(details);
  return names.length ? h("details", {}, h("summary", {}, names.join(", ")), h("span", { class: "mono" }, JSON.stringify(details))) : null;
}
