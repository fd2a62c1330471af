// Ticks: round values, and round times of the wall clock, also where the clocks change.

import { short } from "../lib/format.js";
import { DAY } from "../lib/time.js";

const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const STEPS = SECONDS.map((s) => s * 1000);
const DAYS = [1, 2, 7, 14];
const MONTHS = [1, 2, 3, 6, 12];
const MONTH = 30.4 * DAY;
const TICKS_MAX = 400;

// { ticks, step } with at most about `most` ticks between two instants; `time` is a Time.
export function timeTicks(time, from, to, most) {
  const span = to - from;
  const step = STEPS.find((each) => span / each <= most);
  if (step) return { ticks: within(time, from, to, clockWalls(time, from, to, step)), step };
  const days = DAYS.find((each) => span / (each * DAY) <= most);
  if (days) return { ticks: within(time, from, to, dayWalls(time, from, to, days)), step: days * DAY };
  const months = MONTHS.find((each) => span / (each * MONTH) <= most) ?? 12 * Math.ceil(span / (12 * MONTH) / most);
  return { ticks: within(time, from, to, monthWalls(time, from, to, months)), step: months * MONTH };
}

function* clockWalls(time, from, to, step) {
  const last = time.wall(to).getTime() + step;
  for (let wall = Math.ceil(time.wall(from).getTime() / step) * step - step; wall <= last; wall += step) yield wall;
}

function* dayWalls(time, from, to, days) {
  const last = time.wall(to).getTime() + DAY;
  const first = Math.floor(time.wall(from).getTime() / (days * DAY)) * days;
  for (let day = first; day * DAY <= last; day += days) yield day * DAY;
}

function* monthWalls(time, from, to, months) {
  const first = time.wall(from);
  const last = time.wall(to).getTime();
  let month = first.getUTCFullYear() * 12 + first.getUTCMonth();
  month -= month % months;
  for (let wall = 0; wall <= last; month += months) {
    wall = Date.UTC(Math.floor(month / 12), month % 12);
    yield wall;
  }
}

// The instants of wall clocks, each once; a clock that is skipped or doubled has one or none.
function within(time, from, to, walls) {
  const found = [];
  for (const wall of walls) {
    const at = time.atWall(wall);
    const isReal = time.wall(at).getTime() === wall;
    if (isReal && at >= from && at <= to && at !== found[found.length - 1]) found.push(at);
    if (found.length >= TICKS_MAX) break;
  }
  return found;
}

// As short as the step allows; midnight and January say the day and the year.
export function tickLabel(time, at, step) {
  const wall = time.wall(at);
  if (step >= 28 * DAY) {
    return wall.getUTCMonth() ? time.format(at, { month: "short" }) : time.format(at, { year: "numeric" });
  }
  if (step >= DAY || wall.getTime() % DAY === 0) return time.format(at, { day: "numeric", month: "short" });
  const seconds = step < 60_000 ? { second: "2-digit" } : {};
  return time.format(at, { hour: "2-digit", minute: "2-digit", ...seconds });
}

const DIGITS_MAX = 12;

// The texts of values that valueTicks found, with as many digits as tell one from the next.
export function valueLabels(ticks) {
  const largest = Math.max(...ticks.map(Math.abs));
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : largest;
  if (largest >= 1e6 || (largest > 0 && largest < 1e-3)) return ticks.map((value) => powerOfTen(value, step));
  const digits = digitsOf(step);
  return ticks.map((value) => value.toLocaleString("en", { maximumFractionDigits: digits }));
}

function powerOfTen(value, step) {
  if (value === 0) return "0";
  const power = 10 ** Math.floor(Math.log10(Math.abs(value)));
  return short(value.toExponential(digitsOf(step / power)));
}

// After the point, of a value such as 0.25.
function digitsOf(value) {
  let digits = 0;
  while (digits < DIGITS_MAX && Math.abs(value - Number(value.toFixed(digits))) > value * 1e-6) digits += 1;
  return digits;
}

// At most about `most` round values from low to high.
export function valueTicks(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) ticks.push(n * step || 0);  // Not -0.
  return ticks;
}
