// Ticks, series and silences.

import assert from "node:assert/strict";
import test from "node:test";

import { intervalName } from "../../../api/page/static/charts/interval.js";
import { valueRange } from "../../../api/page/static/charts/paint.js";
import { gapMs, Series } from "../../../api/page/static/charts/series.js";
import { sparkPath } from "../../../api/page/static/charts/strip.js";
import { tickLabel, timeTicks, valueLabels, valueTicks } from "../../../api/page/static/charts/ticks.js";
import { Time } from "../../../api/page/static/lib/time.js";

const MINUTE = 60_000;
const berlin = new Time();
berlin.zone = "Europe/Berlin";

function labels(from, to, most) {
  const { ticks, step } = timeTicks(berlin, Date.parse(from), Date.parse(to), most);
  return ticks.map((at) => tickLabel(berlin, at, step));
}

test("hours that the clocks skip or repeat have no tick of their own", () => {
  assert.deepEqual(labels("2026-03-28T22:30Z", "2026-03-29T02:30Z", 10), ["23:30", "29 Mar", "00:30", "01:00", "01:30", "03:00", "03:30", "04:00", "04:30"]);
  assert.deepEqual(labels("2026-10-24T21:00Z", "2026-10-25T03:00Z", 8), ["23:00", "25 Oct", "01:00", "02:00", "03:00", "04:00"]);
});

test("days begin at midnight of the zone, on both sides of a change of the clocks", () => {
  const { ticks } = timeTicks(berlin, Date.parse("2026-10-24T00:00Z"), Date.parse("2026-10-27T00:00Z"), 4);
  assert.deepEqual(ticks.map((at) => new Date(at).toISOString()), ["2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z", "2026-10-26T23:00:00.000Z"]);
});

test("a year has months, and January says the year", () => {
  assert.deepEqual(labels("2025-11-15T00:00Z", "2026-06-15T00:00Z", 8), ["Dec", "2026", "Feb", "Mar", "Apr", "May", "Jun"]);
  assert.ok(labels("1990-01-01T00:00Z", "2026-06-15T00:00Z", 5).length <= 6);
});

test("values have round ticks", () => {
  assert.deepEqual(valueTicks(0, 100, 4), [0, 25, 50, 75, 100]);
  assert.deepEqual(valueTicks(-0.3, 0.31, 4), [-0.2, 0, 0.2]);
});

test("the labels of values tell one from the next, however large they are", () => {
  const shown = (low, high) => valueLabels(valueTicks(low, high, 4));
  assert.deepEqual(shown(0, 100), ["0", "25", "50", "75", "100"]);
  assert.deepEqual(shown(-0.5, 0.5), ["-0.5", "-0.25", "0", "0.25", "0.5"]);
  assert.deepEqual(shown(1234.2, 1235), ["1,234.2", "1,234.4", "1,234.6", "1,234.8", "1,235"]);
  assert.deepEqual(shown(0, 2e6), ["0", "5e5", "1e6", "1.5e6", "2e6"]);
  assert.deepEqual(shown(1e300, 1.1e300), ["1e300", "1.025e300", "1.05e300", "1.075e300", "1.1e300"]);
  assert.deepEqual(shown(0, 4e-5), ["0", "1e-5", "2e-5", "3e-5", "4e-5"]);
});

test("a rule that is far from the values does not flatten them", () => {
  const flat = (lines) => valueRange({ low: 15, high: 31 }, lines);
  assert.equal(flat([50]).high, flat([50, 1e5, -1e9]).high);
  assert.ok(flat([50]).high > 50 && flat([-20]).low < -20);
  assert.ok(valueRange({ low: 20, high: 20 }, [50]).high > 50);
});

test("a bucket is named as it stands behind per", () => {
  assert.deepEqual(["5m", "1d", "1w", "1mo", "3mo"].map(intervalName), ["5 min", "1 d", "week", "month", "3 months"]);
});

function everyMinute(...minutes) {
  return new Series({ t: minutes.map((n) => n * MINUTE), avg: minutes, step: MINUTE, gap: gapMs(MINUTE, 60) });
}

test("a line is cut where nothing came for 2.2 intervals, and only there", () => {
  const series = everyMinute(0, 1, 2, 4, 5, 9);
  const view = { from: 0, to: 10 * MINUTE };
  assert.deepEqual(series.stretches(view, 1000).map((points) => points.length), [5, 1]);
  assert.deepEqual(series.silences(view, 10 * MINUTE), [{ from: 6 * MINUTE, to: 9 * MINUTE }]);
});

test("values that come less often than events of the device are not silent in between", () => {
  const minutes = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 90];
  const times = minutes.map((n) => new Date(n * MINUTE).toISOString());
  const ones = minutes.map(() => 1);
  const of = (count) => Series.ofColumns({ bucket: times.slice(0, count), avg: minutes, min: minutes, max: minutes, count: ones }, MINUTE, gapMs(MINUTE, 10));
  assert.deepEqual(of(11).silences({ from: 0, to: 91 * MINUTE }, 91 * MINUTE), [{ from: 28 * MINUTE, to: 90 * MINUTE }]);
  assert.equal(of(2).silences({ from: 0, to: 4 * MINUTE }, 4 * MINUTE).length, 1);
});

test("one bucket without a value is silence where the others hold many", () => {
  const minutes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11];
  const column = minutes.map(() => 6);
  const bucket = minutes.map((n) => new Date(n * MINUTE).toISOString());
  const series = Series.ofColumns({ bucket, avg: column, min: column, max: column, count: column }, MINUTE, gapMs(MINUTE, 10));
  assert.deepEqual(series.silences({ from: 0, to: 12 * MINUTE }, 12 * MINUTE), [{ from: 9 * MINUTE, to: 10 * MINUTE }]);
});

test("the end of a silent line is silence up to now, not up to the end of the view", () => {
  const series = everyMinute(0, 1);
  assert.deepEqual(series.silences({ from: 0, to: 60 * MINUTE }, 20 * MINUTE), [{ from: 2 * MINUTE, to: 20 * MINUTE }]);
  assert.deepEqual(series.silences({ from: 0, to: 60 * MINUTE }, 4 * MINUTE), []);
  assert.deepEqual(new Series().silences({ from: 5, to: 9 }, 7), [{ from: 5, to: 7 }]);
});

test("zooming out or in does not change where silence is", () => {
  const series = everyMinute(0, 1, 2, 30, 31, 32);
  for (const view of [{ from: 0, to: 40 * MINUTE }, { from: 2 * MINUTE, to: 32 * MINUTE }, { from: 10 * MINUTE, to: 20 * MINUTE }]) {
    assert.equal(series.silences(view, 33 * MINUTE).length, 1);
  }
});

test("peaks survive when many points share a column of pixels", () => {
  const t = Array.from({ length: 50_000 }, (_, i) => i);
  const series = new Series({ t, avg: t.map((i) => (i === 33_333 ? 99 : 1)), gap: 10 });
  const points = series.stretches({ from: 0, to: 50_000 }, 500).flat();
  assert.ok(points.length <= 502);
  assert.equal(Math.max(...points.map((point) => point.high)), 99);
});

test("a live value extends its bucket or begins one, and the past is forgotten", () => {
  const series = new Series({ t: [0, MINUTE], avg: [1, 2], n: [1, 3], step: MINUTE, gap: 3 * MINUTE });
  series.add(MINUTE + 5, 6, 0);
  assert.deepEqual(series.point(1), { at: MINUTE, middle: 1.5 * MINUTE, avg: 3, min: 2, max: 6 });
  series.add(2 * MINUTE + 30, 7, 0);
  series.add(10, 100, 0);
  assert.deepEqual(series.t, [0, MINUTE, 2 * MINUTE]);
  for (let i = 3; i < 10_000; i += 1) series.add(i * MINUTE, i, (i - 60) * MINUTE);
  for (const column of ["t", "avg", "min", "max", "n"]) assert.ok(series[column].length < 70);
});

test("what stands at an instant is the bucket that holds it, the nearer one if the line goes on, or nothing", () => {
  const series = everyMinute(0, 1, 5);
  assert.equal(series.at(1.5 * MINUTE).avg, 1);
  assert.equal(series.at(3 * MINUTE), null);
  assert.equal(series.at(-1), null);
  assert.equal(series.at(6 * MINUTE), null);
  const sparse = new Series({ t: [0, 5 * MINUTE], avg: [1, 2], step: MINUTE, gap: 5 * MINUTE });
  assert.equal(sparse.at(2.9 * MINUTE).avg, 1);
  assert.equal(sparse.at(3.1 * MINUTE).avg, 2);
  const points = new Series({ t: [0, 100], avg: [1, 2], gap: 60 });
  assert.equal(points.at(90).avg, 2);
  assert.equal(points.at(50), null);
});

test("a sparkline is not steeper than asked", () => {
  const noise = new Series({ t: [0, 1, 2], avg: [50, 50.1, 50], gap: 10 });
  const heights = [...sparkPath(noise, { from: 0, to: 2 }, { least: 20, height: 24 }).matchAll(/ ([\d.]+)/g)].map((found) => Number(found[1]));
  assert.ok(Math.max(...heights) - Math.min(...heights) < 1);
});

test("a value that stands alone is seen, even in the bucket that begins now", () => {
  const day = { from: 0, to: 1440 * MINUTE };
  const one = (at) => sparkPath(new Series({ t: [at], avg: [20], step: 30 * MINUTE }), day, { width: 104, height: 24 });
  assert.equal(one(720 * MINUTE), "M53.1 12.0h2");
  assert.equal(one(1439 * MINUTE), "M102.0 12.0h2");
});

test("a bucket that has not ended is open, and stands in the middle of what has passed of it", () => {
  const [points] = everyMinute(0, 1, 2).stretches({ from: 0, to: 3 * MINUTE }, 1000, 2.5 * MINUTE);
  assert.deepEqual(points.map(({ at, isOpen }) => [at, isOpen]), [[0.5 * MINUTE, false], [1.5 * MINUTE, false], [2.25 * MINUTE, true]]);
});
