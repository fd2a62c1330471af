"""What may be asked of a metric over time, and from where the answer comes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from api.aggregate.buckets import HOUR, Buckets, Calendar, Offset, whole_hour
from runtime.errors import InvalidRequest


class Stat(StrEnum):
    """In the order in which an answer shows them."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    STDDEV = "stddev"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"


class GroupBy(StrEnum):
    DEVICE = "device"
    TAG = "tag"


class Fill(StrEnum):
    NONE = "none"
    NULL = "null"
    PREVIOUS = "previous"
    LINEAR = "linear"


USUAL_STATS = (Stat.COUNT, Stat.SUM, Stat.AVG, Stat.MIN, Stat.MAX)
PERCENTILES = {Stat.P50: 0.5, Stat.P95: 0.95, Stat.P99: 0.99}


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    """The half-open range [start, end); no device_ids: the fleet; `tags` is a tsquery, None: any."""

    metric: str
    device_ids: tuple[str, ...]
    tags: str | None
    start: datetime
    end: datetime
    buckets: Buckets
    offsets: Sequence[Offset]
    group_by: GroupBy | None = None
    fill: Fill = Fill.NONE
    stats: tuple[Stat, ...] = USUAL_STATS


@dataclass(frozen=True, slots=True)
class Hours:
    """The whole hours from `start` to `end` whose rollups an answer takes, but for the `cut` ones."""

    start: datetime
    end: datetime
    cut: list[datetime]


def rolled_hours(question: AggregateQuery, closed: datetime) -> Hours | None:
    """Which hours of a question rollups can answer; None: the events must.

    Rollups know neither tags nor percentiles, and no part of an hour.
    """
    buckets = question.buckets
    by_tag = question.tags is not None or question.group_by is GroupBy.TAG
    if by_tag or not PERCENTILES.keys().isdisjoint(question.stats):
        return None
    if not isinstance(buckets, Calendar) and not buckets.whole_hours:
        return None
    start, end = whole_hours(question.start, question.end, closed)
    if start == end:
        return None
    return Hours(start, end, buckets.cut_hours(start, end) if isinstance(buckets, Calendar) else [])


def whole_hours(start: datetime, end: datetime, closed: datetime) -> tuple[datetime, datetime]:
    """The whole hours of a range that are closed; if there are none, twice its end."""
    first, last = whole_hour_from(start), min(whole_hour(end), closed)
    return (first, last) if first < last else (end, end)


def events_from(start: datetime, end: datetime, hours: Hours | None) -> datetime | None:
    """The first instant whose events an answer needs; None: none. What is marked is always kept."""
    if hours is None or start < hours.start:
        return start
    if hours.cut:
        return hours.cut[0]
    return hours.end if hours.end < end else None


def share_of_events(start: datetime, end: datetime, hours: Hours) -> float:
    """How much of a range is read from events though rollups answer the rest, from 0 to 1."""
    read = (hours.start - start) + (end - hours.end) + len(hours.cut) * HOUR
    return read / (end - start)


def whole_hour_from(at: datetime) -> datetime:
    """The first whole hour that does not begin before an instant."""
    hour = whole_hour(at)
    return hour if hour == at else hour + HOUR


def parse_stats(text: str) -> tuple[Stat, ...]:
    """A comma list. Raises InvalidRequest."""
    names = set(text.split(","))
    if unknown := sorted(names - set(Stat)):
        raise InvalidRequest(
            f"stats: a comma list of {', '.join(Stat)}; not {', '.join(unknown)[:64]!r}."
        )
    return tuple(stat for stat in Stat if stat in names)
