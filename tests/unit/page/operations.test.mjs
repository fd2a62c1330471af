// Rules as data, the list of incidents, bytes as text, and work that events ask for.

import assert from "node:assert/strict";
import test from "node:test";

import { postLine } from "../../../api/page/static/lib/publish.js";
import { debounce, Throttle } from "../../../api/page/static/lib/throttle.js";
import { filtersOf } from "../../../api/page/static/views/alerts/filters.js";
import { IncidentList } from "../../../api/page/static/views/alerts/incident_list.js";
import { conditionOf, incidentName } from "../../../api/page/static/views/alerts/words.js";
import { bytesOf, hexDump } from "../../../api/page/static/views/dead_letters/hex.js";
import { bodyOf, conditionText, fieldOf, NEW_RULE, scopeText } from "../../../api/page/static/views/rules/model.js";

const seconds = (s) => `${s} s`;

test("a rule is sent without what its condition does not have", () => {
  const rule = { ...NEW_RULE, metric: "temp", threshold: 0, clear_threshold: -1, max_gap_s: 5, for_s: 60 };
  assert.deepEqual(bodyOf(rule), { condition: "threshold", metric: "temp", op: ">", threshold: 0, clear_threshold: -1, max_gap_s: 5, for_s: 60,
    severity: "warning", cooldown_s: 0, notify: "change", channels: [], enabled: true });
  assert.deepEqual(Object.keys(bodyOf({ ...rule, condition: "no_data" })), ["condition", "metric", "severity", "for_s", "cooldown_s", "channels", "enabled"]);
});

test("a rule is said in words", () => {
  const rule = { ...NEW_RULE, metric: "temp", threshold: 60, for_s: 300, clear_threshold: 55 };
  assert.equal(conditionText(rule, seconds), "temp > 60 for 300 s, clears at 55");
  assert.equal(conditionText({ ...rule, condition: "rate", for_s: 0, clear_threshold: null }, seconds), "change of temp per minute > 60");
  assert.equal(conditionText({ ...rule, condition: "no_data" }, seconds), "no temp for 300 s");
  assert.deepEqual([NEW_RULE, { ...NEW_RULE, device_id: "d1", tag: "a" }].map(scopeText), ["all devices", "d1, events tagged a"]);
});

test("a fault is shown at the field that it is about", () => {
  assert.equal(fieldOf({ field: "rule.threshold", message: "a number" }), "threshold");
  assert.equal(fieldOf({ field: "channels.0", message: "a text" }), "channels");
  assert.equal(fieldOf({ field: "rule", message: "clear_threshold is not allowed with ==" }), "clear_threshold");
  assert.equal(fieldOf({ field: "", message: "something else" }), null);
});

test("an incident is said in words", () => {
  assert.equal(conditionOf({ metric: null }), "no sign of life");
  assert.equal(conditionOf({ metric: "temp", op: null }), "no temp");
  assert.equal(conditionOf({ metric: "temp", op: "<", threshold: -2 }, { condition: "rate" }), "change of temp per minute < -2");
  assert.equal(incidentName({ rule_id: "silent", rule_name: null }), "Device is silent");
  assert.equal(incidentName({ rule_id: "r1", rule_name: null, metric: "temp" }), "temp");
});

test("open incidents are shown unless the address says otherwise", () => {
  assert.deepEqual(filtersOf({}), { state: "open", severity: null, rule_id: null, device_id: null });
  assert.equal(filtersOf({ state: "all" }).state, null);
});

function numbered(from, to) {
  return Array.from({ length: from - to + 1 }, (_, i) => ({ id: from - i, state: "firing" }));
}

test("a list of incidents stays as long as somebody asked for, and says what changed", async () => {
  const pages = { first: { rows: numbered(300, 201), next: "second" }, second: { rows: numbered(200, 101), next: "third" } };
  const list = new IncidentList({ page: async () => pages.first, pageAt: async (url) => pages[url] }, { state: "open" });
  await list.refresh();
  pages.first = { rows: numbered(350, 251), next: "other" };
  await list.refresh();
  assert.deepEqual([list.rows.length, list.next], [100, "other"]);
  pages.other = { rows: numbered(250, 151), next: "third" };
  await list.more();
  pages.first = { rows: numbered(360, 261), next: "another" };
  await list.refresh();
  assert.deepEqual([list.rows.length, list.rows.at(-1).id, list.next], [210, 151, "third"]);
  list.apply("acknowledged", { incident_id: 200, by: "ana", timestamp: "t" });
  assert.equal(list.rows.find(({ id }) => id === 200).acknowledged_by, "ana");
  list.apply("resolved", { incident_id: 200, timestamp: "t" });
  assert.equal(list.rows.some(({ id }) => id === 200), false);
});

test("a list of incidents has an end", async () => {
  const list = new IncidentList({ page: async () => ({ rows: numbered(2_000, 1_901), next: "more" }), pageAt: async () => ({ rows: numbered(1_900, 901), next: "more" }) }, {});
  await list.refresh();
  await list.more();
  assert.deepEqual([list.rows.length, list.next, list.isFull], [1_000, null, true]);
});

test("bytes are shown with their offset and characters", () => {
  assert.equal(hexDump(bytesOf(btoa('{"a":1}\0\xff more of it')), 1_000).split("\n")[0], '00000000  7b 22 61 22 3a 31 7d 00  ff 20 6d 6f 72 65 20 6f  {"a":1}.. more o');
  assert.equal(hexDump(new Uint8Array(100), 20).split("\n").length, 2);
});

test("a line for a shell quotes what it sends", () => {
  assert.equal(postLine({ http_url: "http://v", authentication: false }, "/v1/x", { a: "it's" }), `curl http://v/v1/x -H 'Content-Type: application/json' -d '{"a":"it'\\''s"}'`);
});

test("work is done at once, then at most once in a while, and once more after the last request", async () => {
  let done = 0;
  const throttle = new Throttle(20, async () => { done += 1; });
  for (let i = 0; i < 50; i += 1) throttle.ask();
  assert.equal(done, 1);
  await new Promise((resolve) => { setTimeout(resolve, 200); });
  assert.equal(done, 2);
  throttle.stop();
  throttle.ask();
  assert.equal(done, 2);
});

test("of several keystrokes only the last one counts", async () => {
  const heard = await new Promise((resolve) => {
    const type = debounce(5, resolve);
    for (const text of ["a", "ab", "abc"]) type(text);
  });
  assert.equal(heard, "abc");
});
