// Time, texts, addresses, the parser of the stream, and the order of the fleet.

import assert from "node:assert/strict";
import test from "node:test";

import { ago, duration, number, plural } from "../../../api/page/static/lib/format.js";
import { address, parse } from "../../../api/page/static/lib/router.js";
import { EventParser } from "../../../api/page/static/lib/sse.js";
import { publishLines } from "../../../api/page/static/lib/publish.js";
import { Time } from "../../../api/page/static/lib/time.js";
import { fittingRange, Range } from "../../../api/page/static/views/device/range.js";
import { countsOf, held, mainMetric, matching, searchText, sorted } from "../../../api/page/static/views/fleet/order.js";

const NOW = Date.parse("2026-11-28T12:00:00Z");

test("numbers are as long as they can be told apart", () => {
  assert.deepEqual([null, 0, -0.00012, 0.125, 67.456, 123.45, 5986253, 12345].map(number), ["–", "0", "-1.2e-4", "0.125", "67.46", "123.5", "5.99e6", "12,345"]);
});

test("durations have two units at most", () => {
  assert.deepEqual([400, 59_000, 125_000, 3_600_000, 90_000_000, 864_000_000].map(duration), ["0 s", "59 s", "2 min 5 s", "1 h", "1 d 1 h", "10 d"]);
});

test("a long silence is never just now", () => {
  assert.equal(ago(null, NOW), "never");
  assert.equal(ago(NOW - 9_000, NOW), "just now");
  assert.equal(ago(NOW - 90_000_000, NOW), "1 d ago");
  assert.equal(plural(1, "device"), "1 device");
});

test("wall clocks and instants are each other's inverse, also where the clocks change", () => {
  const time = new Time();
  time.zone = "Europe/Berlin";
  assert.equal(time.fromInput("2026-10-25T02:30"), Date.parse("2026-10-25T00:30Z"));
  assert.equal(time.fromInput("2026-03-29T02:30"), Date.parse("2026-03-29T01:30Z"));
  assert.equal(time.toInput(time.fromInput("2026-07-01T12:34")), "2026-07-01T12:34");
  assert.equal(time.full("2026-11-28T12:00:00Z"), "28 Nov 2026, 13:00:00");
});

test("an address keeps what it was made of", () => {
  const made = address(["devices", "a/b c"], { range: "7d", q: "", none: null });
  assert.equal(made, "#/devices/a%2Fb%20c?range=7d");
  assert.deepEqual(parse(made).segments, ["devices", "a/b c"]);
  assert.deepEqual(parse(made).params, { range: "7d" });
  assert.deepEqual(parse("#/%E0%A4%A").segments, ["%E0%A4%A"]);
});

test("events of a stream may come in any pieces", () => {
  const text = ":hello\n\nid: 4\nevent: alert\ndata: {\"a\":1}\n\nevent: latest\r\ndata: [\ndata: ]\r\n\r\n";
  for (const size of [1, 3, 7, text.length]) {
    const found = [];
    const parser = new EventParser((event) => found.push(event));
    for (let i = 0; i < text.length; i += size) parser.push(text.slice(i, i + size));
    assert.deepEqual(found, [{ type: "alert", data: '{"a":1}', id: "4" }, { type: "latest", data: "[\n]", id: null }]);
  }
});

test("a range is what its address says, or the default", () => {
  assert.deepEqual(new Range({}, NOW).view, { from: NOW - 86_400_000, to: NOW });
  assert.deepEqual(new Range({ range: "toString", from: "x", to: "y" }, NOW).params, { range: "24h" });
  const zoomed = new Range({ range: "7d", from: "2026-11-01T00:00:00Z", to: "2026-11-02T00:00:00Z" }, NOW);
  assert.equal(zoomed.isLive, false);
  assert.deepEqual(new Range(zoomed.params, NOW + 5_000).view, zoomed.view);
  zoomed.zoom(null);
  assert.deepEqual(zoomed.params, { range: "7d" });
  zoomed.zoom({ from: -1e15, to: 1e15 });
  assert.ok(zoomed.view.from >= 0 && zoomed.view.to > zoomed.view.from);
});

test("the first range of a device is the shortest that holds its events", async () => {
  const of = (ageMs) => fittingRange(NOW, async (at) => NOW - ageMs < at);
  assert.deepEqual(await Promise.all([0, 14, 16, 59, 61, 1e6].map((minutes) => of(minutes * 60_000))), ["15min", "15min", "1h", "1h", "24h", "24h"]);
  assert.deepEqual(new Range({}, NOW, "15min").view, { from: NOW - 900_000, to: NOW });
});

test("a device without battery has its first metric in the list", () => {
  assert.equal(mainMetric({ latest: { temp: 1, soc_percent: 2, amps: 3 } }), "soc_percent");
  assert.equal(mainMetric({ latest: { temp: 1, amps: 3 } }), "amps");
  assert.equal(mainMetric({ latest: {} }), undefined);
});

function device(id, more = {}) {
  const found = { device_id: id, name: null, tags: [], state: "online", since: "2026-11-28T11:00:00Z", open_incidents: 0, flapping: false, last_seen: null, ...more };
  return { ...found, text: searchText(found) };
}

test("trouble comes first, and what is long gone comes last", () => {
  const devices = [
    device("gone", { state: "offline", since: "2026-09-01T00:00:00Z", open_incidents: 1 }), device("d10"), device("d9"),
    device("off", { state: "offline" }), device("warn", { open_incidents: 2, severity: "warning" }), device("hot", { open_incidents: 1, severity: "critical" }),
    device("late", { state: "late" }), device("new", { state: "never_seen" }), device("flaps", { flapping: true })];
  assert.deepEqual(sorted(devices, "trouble", NOW).map((each) => each.device_id), ["hot", "warn", "off", "late", "flaps", "d9", "d10", "gone", "new"]);
});

test("a search finds every word in the id, the name or a tag", () => {
  const devices = [device("truck-7", { name: "North Depot", tags: ["model:e40"] }), device("truck-8")];
  assert.equal(matching(devices, "all", "TRUCK e40 north").length, 1);
  assert.equal(matching(devices, "offline", "").length, 0);
  assert.deepEqual({ ...countsOf(devices) }, { all: 2, online: 2, asleep: 0, late: 0, offline: 0, never_seen: 0, alerts: 0 });
});

test("an order that is held keeps its places, and what is new comes last", () => {
  const [a, b, c] = ["a", "b", "c"].map((id) => device(id));
  assert.deepEqual(held([c, a], [a, b, c]), [c, a, b]);
  assert.deepEqual(held([c, a], [a]), [a]);
});

test("the lines to copy have the true addresses", () => {
  const [mqtt, http] = publishLines({ mqtt_url: "mqtts://[::1]:8883", http_url: "https://v.example", authentication: true }, "it's");
  assert.match(mqtt.line, /-h \[?::1\]? -p 8883 --capath/);
  assert.match(mqtt.line, /'devices\/it'\\''s\/telemetry'/);
  assert.match(http.line, /^curl https:\/\/v\.example\/v1\/events -H 'Authorization: Bearer vwd_…'/);
});
