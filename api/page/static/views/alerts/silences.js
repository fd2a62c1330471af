// The silences: what is kept from channels now, later, and was lately.

import { confirmed, emptyState, table, toast } from "../../lib/components.js";
import { fill, h } from "../../lib/dom.js";
import { moment } from "../../widgets/moments.js";
import { button, tag } from "../../widgets/pieces.js";
import { titleOf } from "../rules/model.js";
import { addSilence } from "./silence_form.js";
import { SILENT } from "./words.js";

const SILENCES_MAX = 200;

// Draws them into a place; returns a function that reads them again.
export function silences(app, place, rules) {
  const reload = async () => {
    const { rows, next } = await app.api.page("/v1/silences", { limit: SILENCES_MAX });
    const may = app.may("admin");
    fill(place,
      may && h("div", { class: "row filters" }, button("Add a silence", add, { kind: "main" })),
      rows.length ? table("Silences", columns(app, rules, may && end), rows) : nothing(),
      next && h("p", { class: "hint" }, `These are the newest ${SILENCES_MAX}.`));
  };
  const add = async () => { if (await addSilence(app, rules)) await reload(); };
  const end = async (silence) => {
    const text = "Channels get alerts again from now on, and at the next violation also what was kept from them.";
    if (!(await confirmed("End this silence?", text, "End it"))) return;
    await app.api.send("DELETE", `/v1/silences/${silence.id}`).catch((problem) => toast(problem.detail, { kind: "bad" }));
    await reload();
  };
  return reload;
}

function columns(app, rules, end) {
  const all = [
    { name: "State", class: "plain", cell: (row) => tag(stateOf(row)) },
    { name: "Concerns", class: "plain first", wide: true, cell: (row) => concerns(row, rules) },
    { name: "From", cell: (row) => h("time", { datetime: row.from_time }, app.time.short(row.from_time)) },
    { name: "To", cell: (row) => h("time", { datetime: row.to_time }, app.time.short(row.to_time)) },
    { name: "Reason", wide: true, cell: (row) => row.reason ?? "–" },
    { name: "Made", cell: (row) => moment(app.time, row.created_at) },
  ];
  if (!end) return all;
  const cell = (row) => stateOf(row) !== "ended" && button("End", () => end(row), { label: `End silence ${row.id}` });
  return [...all, { name: "", class: "buttons", cell }];
}

function stateOf(silence, now = Date.now()) {
  if (silence.active) return "active";
  return Date.parse(silence.from_time) > now ? "later" : "ended";
}

function concerns({ device_id: device, rule_id: rule, tag: label }, rules) {
  const named = rules.find(({ id }) => id === rule);
  const ruleText = rule === SILENT ? "devices that fall silent" : named ? titleOf(named) : rule;
  return [device && `device ${device}`, rule && `rule ${ruleText}`, label && `tag ${label}`].filter(Boolean).join(", ");
}

function nothing() {
  return emptyState("No silences",
    "A silence keeps alerts from channels for a while, for instance during maintenance. Incidents and this page go on.");
}
