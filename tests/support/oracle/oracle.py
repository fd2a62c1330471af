"""The expected answers of the API to queries about values, computed by brute force.

The oracle is independent of the product and slow: it uses fractions instead of doubles, reads every event
and takes local midnights from zoneinfo. A value counts as the decimal number that its double is written as.
Results are rounded to 60 digits, which is still exact compared with the 16 of an answer.
"""

import json
import operator
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

STATS = ("count", "sum", "avg", "min", "max", "first", "last", "stddev", "p50", "p95", "p99")
DEFAULT_STATS = STATS[:5]
AS_STORED = {"min", "max", "first", "last"}
PERCENTILES = {"p50": Fraction(50, 100), "p95": Fraction(95, 100), "p99": Fraction(99, 100)}
ROWS_MAX = 50_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
FIXED = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": HOUR}
FIRST_DAY, FIRST_MONDAY = date(1970, 1, 1), date(1970, 1, 5)

OPERATORS = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip
AUTO_INTERVALS = (
    "1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h",
    "12h", "1d", "1w", "1mo", "3mo", "12mo",
)  # fmt: skip

DIGITS = Context(prec=60, Emax=10**6, Emin=-(10**6))
MOST, SMALLEST = Decimal("1.7976931348623157e308"), Decimal("5e-324")
RELATIVE = Decimal("1e-9")
# The error of doubles in an interpolation, relative to the larger neighbour.
INTERPOLATED = Decimal("1e-13")

_BUCKET = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})"
)


class TooManyRows(Exception):
    """The answer is 422."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it was first sent; `ts` in whole microseconds."""

    device_id: str
    event_id: str
    ts: datetime
    metrics: Mapping[str, float]
    tags: tuple[str, ...] = ()


class Condition(NamedTuple):
    name: str
    op: str
    number: float

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.number!r}"

    def holds(self, value: Decimal | None) -> bool:
        return value is not None and OPERATORS[self.op](value, Decimal(repr(self.number)))


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    metric: str
    start: datetime
    end: datetime
    interval: str = "1m"
    device_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group_by: str | None = None
    tz: str = "UTC"
    fill: str = "none"
    stats: tuple[str, ...] = DEFAULT_STATS
    more_metrics: tuple[str, ...] = ()
    device_tags: tuple[str, ...] = ()
    group_by_too: str | None = None
    tag_prefix: str | None = None
    device_tag_prefix: str | None = None
    where: tuple[Condition, ...] = ()
    having: tuple[Condition, ...] = ()
    max_points: int | None = None  # of interval=auto
    columns: bool = False

    @property
    def metrics(self) -> list[str]:
        return sorted({self.metric, *self.more_metrics})

    @property
    def keys(self) -> list[str]:
        """The members of a row that name its group."""
        by = {"device": "device_id"}
        groups = [key for key in (self.group_by, self.group_by_too) if key is not None]
        return ["metric"] * (len(self.metrics) > 1) + [by.get(key, key) for key in groups]

    @property
    def shown(self) -> list[str]:
        """The stats in the order of an answer."""
        return [name for name in STATS if name in self.stats]

    @property
    def parameters(self) -> list[tuple[str, Any]]:
        """The parameters of the query string; defaults are left out."""
        several = [("device_id", name) for name in self.device_ids]
        several += [("tag", tag) for tag in self.tags]
        several += [("metric", name) for name in self.more_metrics]
        several += [("device_tag", tag) for tag in self.device_tags]
        several += [("where", str(condition)) for condition in self.where]
        several += [("having", str(condition)) for condition in self.having]
        if self.group_by_too is not None:
            several.append(("group_by", self.group_by_too))
        single = {
            "metric": self.metric,
            "from_time": self.start.isoformat(),
            "to_time": self.end.isoformat(),
            "interval": self.interval,
            "group_by": self.group_by,
            "tz": self.tz if self.tz != "UTC" else None,
            "fill": self.fill if self.fill != "none" else None,
            "stats": ",".join(self.stats) if self.stats != DEFAULT_STATS else None,
            "tag_prefix": self.tag_prefix,
            "device_tag_prefix": self.device_tag_prefix,
            "max_points": self.max_points,
            "format": "columns" if self.columns else None,
        }
        return [(name, value) for name, value in single.items() if value is not None] + several


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
    buckets: "Buckets",
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
    """Whether an answer needs raw events older than the floor: then it is 422.

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


@cache
def midnight(day: date, tz: str) -> datetime:
    """The earliest instant of a local day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(tz)).astimezone(UTC)


class Buckets:
    """The buckets of an interval, numbered consecutively; counting begins with bucket 0."""

    def __init__(self, interval: str, tz: str) -> None:
        self.count, self.unit = _unit(interval)
        self.tz = tz
        self.length = FIXED.get(self.unit, timedelta()) * self.count

    def start(self, number: int) -> datetime:
        match self.unit:
            case "d":
                return midnight(FIRST_DAY + timedelta(days=self.count * number), self.tz)
            case "w":
                return midnight(FIRST_MONDAY + timedelta(weeks=self.count * number), self.tz)
            case "mo":
                years, months = divmod(self.count * number, 12)
                return midnight(date(1970 + years, months + 1, 1), self.tz)
        return EPOCH + self.length * number

    def number(self, at: datetime) -> int:
        day = at.astimezone(ZoneInfo(self.tz)).date()
        match self.unit:
            case "d":
                guess = (day - FIRST_DAY).days // self.count
            case "w":
                guess = (day - FIRST_MONDAY).days // (7 * self.count)
            case "mo":
                guess = ((day.year - 1970) * 12 + day.month - 1) // self.count
            case _:
                return (at - EPOCH) // self.length
        while self.start(guess) > at:
            guess -= 1
        while self.start(guess + 1) <= at:
            guess += 1
        return guess

    def between(self, start: datetime, end: datetime, most: int = 10**9) -> list[int]:
        """The buckets that overlap [start, end). A skipped local day has none. Raises TooManyRows."""
        numbers = range(self.number(start), self.number(end - MICROSECOND) + 1)
        if most and len(numbers) > most + 2:  # No zone ever skipped more than two days.
            raise TooManyRows
        return [n for n in numbers if self.start(n) < self.start(n + 1)] if most else []


def _unit(interval: str) -> tuple[int, str]:
    unit = interval.lstrip("0123456789")
    return int(interval.removesuffix(unit)), unit


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


def rows_of_columns(answer: Any, keys: Sequence[str]) -> list[Row]:
    """The rows of an answer in columns: an object, or one per group. Raises ValueError for another form."""
    rows: list[Row] = []
    groups: list[tuple[str, ...]] = []
    for found in answer if keys else [answer]:
        if list(found)[: len(keys) + 1] != [*keys, "bucket"]:
            raise ValueError(f"members {list(found)}")
        group = {key: found.pop(key) for key in keys}
        groups.append(tuple(group.values()))
        for values in zip(*found.values(), strict=True):
            bucket, *stats = values
            rows.append({"bucket": bucket} | group | dict(zip(list(found)[1:], stats, strict=True)))
    if groups != sorted(set(groups), key=lambda group: [name.encode() for name in group]):
        raise ValueError(f"the order of groups {groups}")
    return sorted(
        rows,
        key=lambda row: (
            datetime.fromisoformat(row["bucket"]),
            [row[key].encode() for key in keys],
        ),
    )


def difference(
    expected: Sequence[Row], answer: str, tz: str, columns_of: Sequence[str] | None = None
) -> str | None:
    """The first difference between an answer and the expected rows; None if there is none.

    `columns_of`: the answer is in columns, and these are the keys of its groups.
    """
    rows = read(answer) if columns_of is None else rows_of_columns(read(answer), columns_of)
    if not isinstance(rows, list):
        return f"no array: {answer[:200]}"
    for place, (wanted, row) in enumerate(zip(expected, rows, strict=False)):
        if list(row) != list(wanted):
            return f"row {place}: {row}, expected the members {list(wanted)}"
        if faults := [name for name in wanted if not _is(name, wanted[name], row[name], tz)]:
            shown = {name: shown_number(value) for name, value in wanted.items()}
            return f"row {place}, {', '.join(faults)}: {row}, expected {shown}"
    if len(rows) != len(expected):
        more = (rows if len(rows) > len(expected) else expected)[min(len(rows), len(expected))]
        return f"{len(rows)} rows, expected {len(expected)}; the next one is {more}"
    return None


class Pointed(float):
    """A number written with a decimal point."""


def read(answer: str) -> Any:
    def number(text: str) -> float:
        return Pointed(text) if "." in text else float(text)

    return json.loads(answer, parse_float=number)


def is_number(wanted: Near | int | None, got: Any) -> bool:
    """Whether a member of an answer is that number, written as it must be."""
    if wanted is None or isinstance(wanted, int):
        return type(got) is type(wanted) and bool(got == wanted)
    if not isinstance(got, int | float) or isinstance(got, bool):
        return False
    if isinstance(got, Pointed) and got.is_integer() and abs(got) < 2**53:
        return False
    if wanted.exact:  # JSON readers may read long integers as doubles.
        return bool(float(got) == float(wanted.value))
    with localcontext(DIGITS):
        missed = abs(Decimal(got) - wanted.value)
        return missed <= wanted.value.copy_abs() * RELATIVE + wanted.slack + SMALLEST


def shown_number(value: Any) -> Any:
    return float(value.value) if isinstance(value, Near) else value


def _is(name: str, wanted: Any, got: Any, tz: str) -> bool:
    if name == "bucket":
        return _is_bucket(wanted, got, tz)
    if name in {"metric", "device_id", "tag", "device_tag"}:
        return bool(wanted == got)
    return is_number(wanted, got)


def _is_bucket(wanted: datetime, got: Any, tz: str) -> bool:
    """The offset is in whole minutes, unlike historical local mean times."""
    if not isinstance(got, str) or _BUCKET.fullmatch(got) is None:
        return False
    at, offset = datetime.fromisoformat(got), wanted.astimezone(ZoneInfo(tz)).utcoffset()
    shown = at.utcoffset()
    assert offset is not None
    assert shown is not None
    return at == wanted and abs(shown - offset) < FIXED["m"] and (tz != "UTC" or got[-1] == "Z")
