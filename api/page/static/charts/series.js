// What a chart shows of one metric: columns of buckets, cut where nothing was received.

// The rule of gaps, the only one: silence is more than 1.5 buckets, 2.2 expected intervals and 2.2 usual distances
// of the values that are shown, without a value. So a metric that comes with every tenth event, or came less often in
// the past, is not silent in between.
const BUCKETS_OF_SILENCE = 1.5;
const INTERVALS_OF_SILENCE = 2.2;
const DISTANCES_MIN = 8;  // Of fewer, none is usual.
const UNKNOWN_INTERVAL_MS = 150_000;  // Then 5.5 minutes, near the 5 after which a device is offline.

export function gapMs(stepMs, expectedIntervalS) {
  const interval = expectedIntervalS ? expectedIntervalS * 1000 : UNKNOWN_INTERVAL_MS;
  return Math.max(BUCKETS_OF_SILENCE * stepMs, INTERVALS_OF_SILENCE * interval);
}

// The median distance of ascending buckets, divided among the values of one; 0 if there are few.
function usualDistance(t, n) {
  const distances = t.slice(1).map((at, i) => at - t[i]);
  return distances.length < DISTANCES_MIN ? 0 : median(distances) / median(n);
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

// Columns of equal length, t in ms and ascending: the starts of buckets of `step` ms, or instants if it is 0; the
// mean, lowest and highest value of each, and how many there were.
export class Series {
  constructor({ t = [], avg = [], min = [...avg], max = [...avg], n = avg.map(() => 1), step = 0, gap = Infinity } = {}) {
    Object.assign(this, { t, avg, min, max, n, step, gap });
  }

  // From a group of an answer with format=columns; buckets without a value are left out. `gapMin` is that of `gapMs`.
  static ofColumns({ bucket, avg, min, max, count }, step, gapMin) {
    const kept = bucket.map((_, i) => i).filter((i) => avg[i] !== null);
    const column = (values) => kept.map((i) => values[i]);
    const t = kept.map((i) => Date.parse(bucket[i]));
    const n = column(count);
    const gap = Math.max(gapMin, INTERVALS_OF_SILENCE * usualDistance(t, n));
    return new Series({ t, avg: column(avg), min: column(min), max: column(max), n, step, gap });
  }

  get length() {
    return this.t.length;
  }

  // The first index whose time is at or after an instant.
  index(at) {
    let low = 0;
    let high = this.t.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.t[middle] < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // The indices [first, end) that a view shows, with one neighbour on each side.
  range({ from, to }) {
    return [Math.max(0, this.index(from - this.step) - 1), Math.min(this.t.length, this.index(to) + 1)];
  }

  // { low, high } of what lies in a view, or null.
  extent(view) {
    let low = Infinity;
    let high = -Infinity;
    const [first, end] = this.range(view);
    for (let i = first; i < end; i += 1) {
      if (this.t[i] + this.step < view.from || this.t[i] > view.to) continue;
      if (this.min[i] < low) low = this.min[i];
      if (this.max[i] > high) high = this.max[i];
    }
    return low > high ? null : { low, high };
  }

  // What stands at an instant: the bucket that holds it, the nearer one if the line goes on from one to the other, or
  // the nearest point within half a gap.
  at(instant) {
    const i = this.index(instant + 1) - 1;
    if (this.step) return this.bucketAt(instant, i);
    const next = i + 1 < this.t.length && (i < 0 || this.t[i + 1] - instant < instant - this.t[i]) ? i + 1 : i;
    return next >= 0 && Math.abs(this.t[next] - instant) <= this.gap / 2 ? this.point(next) : null;
  }

  bucketAt(instant, i) {
    if (i < 0) return null;
    const after = instant - (this.t[i] + this.step);
    if (after < 0) return this.point(i);
    if (i + 1 === this.t.length || this.t[i + 1] - this.t[i] > this.gap) return null;
    return this.point(after < this.t[i + 1] - instant ? i : i + 1);
  }

  point(i) {
    return { at: this.t[i], middle: this.t[i] + this.step / 2, avg: this.avg[i], min: this.min[i], max: this.max[i] };
  }

  // Unbroken stretches of at most about `columns` points; what a point hides, its low and high show. A bucket that has
  // not ended at `now` is open: its mean is that of a part, and it stands in the middle of that part.
  stretches(view, columns, now = Infinity) {
    const [first, end] = this.range(view);
    const width = (view.to - view.from) / columns;
    const merges = end - first > columns * 2;
    const found = [];
    let before = -Infinity;
    let column = null;
    for (let i = first; i < end; i += 1) {
      const where = merges ? Math.floor((this.t[i] - view.from) / width) : i;
      if (!found.length || this.t[i] - before > this.gap) found.push([]);
      const stretch = found[found.length - 1];
      if (where === column && stretch.length) this.merge(stretch[stretch.length - 1], i);
      else stretch.push(this.drawn(i, now));
      column = where;
      before = this.t[i];
    }
    return found;
  }

  drawn(i, now) {
    const isOpen = this.t[i] + this.step > now;
    const width = isOpen ? Math.max(0, now - this.t[i]) : this.step;
    return { at: this.t[i] + width / 2, low: this.min[i], high: this.max[i], sum: this.avg[i], n: 1, isOpen };
  }

  merge(point, i) {
    if (this.min[i] < point.low) point.low = this.min[i];
    if (this.max[i] > point.high) point.high = this.max[i];
    point.sum += this.avg[i];
    point.n += 1;
  }

  // Where nothing was received in a view, up to now: [{ from, to }].
  silences(view, now) {
    const end = Math.min(view.to, now);
    const [first, last] = this.range(view);
    if (first === last) return end > view.from ? [{ from: view.from, to: end }] : [];
    const found = [];
    if (this.t[first] - view.from > this.gap) found.push({ from: view.from, to: this.t[first] });
    for (let i = first + 1; i < last; i += 1) {
      if (this.t[i] - this.t[i - 1] > this.gap) found.push({ from: this.t[i - 1] + this.step, to: this.t[i] });
    }
    const heard = this.t[last - 1] + this.step;
    if (end - heard > this.gap) found.push({ from: heard, to: end });
    return found;
  }

  // Add a live value, in its bucket or in a new one, and forget what lies before an instant. An older one waits for
  // the next answer of the API.
  add(at, value, oldest) {
    const last = this.t.length - 1;
    if (last < 0) this.push(this.step ? at - (at % this.step) : at, value);
    else if (this.step && at >= this.t[last] && at < this.t[last] + this.step) this.extend(last, value);
    else if (at > this.t[last]) this.push(this.startAfter(last, at), value);
    const dropped = this.index(oldest) - 1;
    if (dropped > 0) for (const column of [this.t, this.avg, this.min, this.max, this.n]) column.splice(0, dropped);
  }

  // Buckets follow each other in steps; those of a calendar do so nearly, until the next answer.
  startAfter(last, at) {
    if (!this.step) return at;
    return this.t[last] + Math.floor((at - this.t[last]) / this.step) * this.step;
  }

  extend(i, value) {
    this.n[i] += 1;
    this.min[i] = Math.min(this.min[i], value);
    this.max[i] = Math.max(this.max[i], value);
    this.avg[i] += (value - this.avg[i]) / this.n[i];
  }

  push(at, value) {
    this.t.push(at);
    for (const column of [this.avg, this.min, this.max]) column.push(value);
    this.n.push(1);
  }
}
