"""The expected responses of the API to queries about values, computed by brute force.

The oracle is independent of the product and slow: it uses fractions instead of doubles, reads every event
and takes local midnights from zoneinfo (buckets.py). comparison.py compares its rows with a response.
A value counts as the decimal number that its double is written as.
Results are rounded to 60 digits, which is still exact compared with the 16 of a response.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import product
from typing import Any

from tests.support.oracle.buckets import EPOCH, HOUR, MICROSECOND, Buckets, TooManyRows, midnight
from tests.support.oracle.query import STATS, AggregateQuery, Stored

AS_STORED = {"min", "max", "first", "last"}
PERCENTILES = {"p50": Fraction(50, 100), "p95": Fraction(95, 100), "p99": Fraction(99, 100)}
ROWS_MAX = 50_000

AUTO_INTERVALS = (
    "1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h",
    "12h", "1d", "1w", "1mo", "3mo", "12mo",
)  # fmt: skip

DIGITS = Context(prec=60, Emax=10**6, Emin=-(10**6))
MOST, SMALLEST = Decimal("1.7976931348623157e308"), Decimal("5e-324")
# The error of doubles in an interpolation, relative to the larger neighbour.
INTERPOLATED = Decimal("1e-13")


@dataclass(frozen=True, slots=True)
class Near:
    """A number, and the deviation that is allowed in addition to the general tolerance."""

    value: Decimal
    slack: Decimal = Decimal(0)
    exact: bool = False


Row = dict[str, Any]  # bucket: datetime; keys of a group: str; count: int; others: Near | None
DeviceTags = Mapping[str, Sequence[str]]  # of registered devices


def aggregate(
    events: Iterable[Stored], query: AggregateQuery, device_tags: DeviceTags | None = None
) -> list[Row]:
    """Raises TooManyRows."""
    buckets, registered = Buckets(query.interval, query.tz), device_tags or {}
    cells: dict[tuple[str, ...], dict[int, list[Stored]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        if _counts(event, query, registered):
            for group in _groups(event, query, registered):
                cells[group][buckets.number(event.ts)].append(event)
    if query.group_by is None:  # The only group, or one per metric, exists with or without events.
        for metric in query.metrics:
            cells[(metric,)]
    known = {group: _known(found, group[0], query) for group, found in cells.items()}
    known = {group: found for group, found in known.items() if found or query.group_by is None}
    if query.fill == "none":
        wanted = {group: sorted(found) for group, found in known.items()}
    else:
        numbers = buckets.between(query.start, query.end, ROWS_MAX if known else 0)
        wanted = dict.fromkeys(known, numbers)
    if sum(map(len, wanted.values())) > ROWS_MAX:
        raise TooManyRows
    return _rows(query, buckets, known, wanted)


def _rows(
    query: AggregateQuery,
    buckets: Buckets,
    known: Mapping[tuple[str, ...], Mapping[int, Row]],
    wanted: Mapping[tuple[str, ...], Sequence[int]],
) -> list[Row]:
    rows = []
    for group, found in known.items():
        names = group if "metric" in query.keys else group[1:]
        for n, values in _filled(wanted[group], found, buckets, query):
            row: Row = {"bucket": buckets.start(n)} | dict(zip(query.keys, names, strict=True))
            rows.append((n, [name.encode() for name in names], row | values))
    return [row for _, _, row in sorted(rows, key=lambda found: found[:2])]


def _known(found: Mapping[int, list[Stored]], metric: str, query: AggregateQuery) -> dict[int, Row]:
    """The stats of each bucket that satisfies `having`."""
    stats = {n: _stats(events, metric) for n, events in found.items()}
    return {
        n: row
        for n, row in stats.items()
        if all(condition.holds(_value(row[condition.name])) for condition in query.having)
    }


def _value(stat: Near | int | None) -> Decimal | None:
    return stat.value if isinstance(stat, Near) else None if stat is None else Decimal(stat)


def shortest_interval(
    events: Sequence[Stored],
    query: AggregateQuery,
    device_tags: DeviceTags,
    floor: datetime | None,
) -> str | None:
    """The interval of `interval=auto`; None if every one is refused."""
    assert query.max_points is not None
    for interval in AUTO_INTERVALS:
        tried = replace(query, interval=interval)
        try:
            numbers = Buckets(interval, query.tz).between(query.start, query.end, query.max_points)
            fits = len(numbers) <= query.max_points
            if fits and (floor is None or not needs_raw_before(floor, tried)):
                aggregate(events, tried, device_tags)
                return interval
        except TooManyRows:
            pass
    return None


def summary(
    events: Iterable[Stored], device_id: str, day: date, tz: str, profile: Sequence[str]
) -> dict[str, Row]:
    """Per metric of one local day: count, min, max, avg."""
    start, end = midnight(day, tz), midnight(day + timedelta(days=1), tz)
    of_day = [e for e in events if e.device_id == device_id and start <= e.ts < end]
    names = {name for event in of_day for name in event.metrics}
    found = {name: _stats([e for e in of_day if name in e.metrics], name) for name in names}
    if not found:
        zero = Near(Decimal(0), exact=True)
        nothing = {"count": 0, "min": zero, "max": zero, "avg": zero}
        found = dict.fromkeys(profile, nothing)
    return {
        name: {stat: values[stat] for stat in ("count", "min", "max", "avg")}
        for name, values in found.items()
    }


def needs_raw_before(floor: datetime, query: AggregateQuery) -> bool:
    """Whether a response needs raw events older than the floor: then it is 422.

    Rollups hold whole hours, by device and metric. They hold neither tags nor percentiles, nor parts of an
    hour, which a fixed interval may need unless it is a number of whole hours.
    """
    if query.start >= floor:
        return False
    if query.tags or query.where or "tag" in query.keys or PERCENTILES.keys() & set(query.stats):
        return True
    buckets = Buckets(query.interval, query.tz)
    if buckets.length % HOUR:
        return True
    cuts = [buckets.start(n) for n in buckets.between(query.start, min(query.end, floor))]
    inner = [at for at in [query.start, *cuts, query.end] if query.start <= at < floor]
    return any((at - EPOCH) % HOUR for at in inner)


def _counts(event: Stored, query: AggregateQuery, device_tags: DeviceTags) -> bool:
    return (
        query.start <= event.ts < query.end
        and (not query.device_ids or event.device_id in query.device_ids)
        and set(query.tags) <= set(event.tags)
        and set(query.device_tags) <= set(device_tags.get(event.device_id, ()))
        and all(
            condition.name in event.metrics
            and condition.holds(Decimal(repr(float(event.metrics[condition.name]))))
            for condition in query.where
        )
    )


def _groups(
    event: Stored, query: AggregateQuery, device_tags: DeviceTags
) -> Iterator[tuple[str, ...]]:
    """The metric, and the other keys of each group that the event counts under."""
    members = {
        "device": {event.device_id},
        "tag": {tag for tag in event.tags if tag.startswith(query.tag_prefix or "")},
        "device_tag": {
            tag
            for tag in device_tags.get(event.device_id, ())
            if tag.startswith(query.device_tag_prefix or "")
        },
    }
    keys = [members[key] for key in (query.group_by, query.group_by_too) if key is not None]
    yield from product([name for name in query.metrics if name in event.metrics], *keys)


def _stats(events: Sequence[Stored], metric: str) -> Row:
    ordered = sorted(events, key=lambda e: (e.ts, e.event_id.encode(), e.device_id.encode()))
    by_time = [Fraction(repr(float(event.metrics[metric]))) for event in ordered]
    values = sorted(by_time)
    n, total = len(values), Fraction(sum(values))
    found = {
        "sum": Near(_rounded(total)),
        "avg": Near(_rounded(total / n)),
        "min": Near(_rounded(values[0]), exact=True),
        "max": Near(_rounded(values[-1]), exact=True),
        "first": Near(_rounded(by_time[0]), exact=True),
        "last": Near(_rounded(by_time[-1]), exact=True),
        **{name: _percentile(values, part) for name, part in PERCENTILES.items()},
    }
    if n > 1:
        squares = sum(value * value for value in values)
        variance = (squares - total**2 / n) / (n - 1)
        found["stddev"] = Near(DIGITS.sqrt(_rounded(variance)))
    numbers = {name: near for name, near in found.items() if near.value.copy_abs() <= MOST}
    return {"count": n} | {name: numbers.get(name) for name in STATS[1:]}


def _percentile(values: Sequence[Fraction], part: Fraction) -> Near:
    place = part * (len(values) - 1)
    below = int(place)
    low, high = values[below], values[min(below + 1, len(values) - 1)]
    if place != below and high - low > Fraction(MOST):
        return Near(Decimal("Infinity"))  # percentile_cont computes in doubles.
    around = values[max(below - 1, 0) : below + 2]
    slack = _rounded(max(map(abs, around)) * Fraction(INTERPOLATED))
    return Near(_rounded(low + (high - low) * (place - below)), slack)


def _rounded(value: Fraction) -> Decimal:
    return DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


def _filled(
    wanted: Sequence[int], known: Mapping[int, Row], buckets: Buckets, query: AggregateQuery
) -> Iterator[tuple[int, Row]]:
    """The requested stats of each wanted bucket."""
    before: list[int | None] = []
    after: list[int | None] = []
    for found, numbers in ((before, wanted), (after, wanted[::-1])):
        latest = None
        for n in numbers:
            latest = n if n in known else latest
            found.append(latest)
    shown = query.shown
    for n, left, right in zip(wanted, before, reversed(after), strict=True):
        row: Row = dict.fromkeys(shown)
        if n in known:
            row = {name: known[n][name] for name in shown}
        elif query.fill == "previous" and left is not None:
            row = {name: known[left][name] for name in shown}
        elif query.fill == "linear" and left is not None and right is not None:
            begin, at, end = map(buckets.start, (left, n, right))
            part = Fraction((at - begin) // MICROSECOND, (end - begin) // MICROSECOND)
            row = {name: _between(known[left][name], known[right][name], part) for name in shown}
        if n not in known and "count" in row:
            row["count"] = 0
        yield n, row


def _between(left: Near | None, right: Near | None, part: Fraction) -> Near | None:
    if not isinstance(left, Near) or not isinstance(right, Near):
        return None
    with localcontext(DIGITS):
        value = left.value + (right.value - left.value) * _rounded(part)
        most = max(left.value.copy_abs(), right.value.copy_abs())
        return Near(value, most * INTERPOLATED + left.slack + right.slack)
