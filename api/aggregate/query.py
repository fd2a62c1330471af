"""Queries for the statistics of a metric over time, and the plan of what to read for them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from api.aggregate.buckets import HOUR, Buckets, Fixed, Offset, whole_hour
from runtime.errors import InvalidRequest


class Stat(StrEnum):
    """The statistics, in the order of a response."""

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


DEFAULT_STATS = (Stat.COUNT, Stat.SUM, Stat.AVG, Stat.MIN, Stat.MAX)
PERCENTILES = {Stat.P50: 0.5, Stat.P95: 0.95, Stat.P99: 0.99}


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    """Over the half-open range [start, end). No device_ids: the fleet; `tags` is a tsquery, None: any."""

    metric: str
    device_ids: tuple[str, ...]
    tags: str | None
    start: datetime
    end: datetime
    buckets: Buckets
    offsets: Sequence[Offset]
    group_by: GroupBy | None = None
    fill: Fill = Fill.NONE
    stats: tuple[Stat, ...] = DEFAULT_STATS


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What a response for [start, end) is computed from.

    Rollups cover the whole hours [hours_start, hours_end), which are closed; if the two are equal, there are
    none. Events cover the rest, and `split_hours`: those of the hours in which a bucket begins.
    """

    start: datetime
    end: datetime
    hours_start: datetime
    hours_end: datetime
    split_hours: list[datetime] = field(default_factory=list)

    @property
    def uses_rollups(self) -> bool:
        return self.hours_start < self.hours_end

    @property
    def first_event(self) -> datetime | None:
        """The first instant whose events must be kept, None for none. Retention always keeps marked hours."""
        if self.start < self.hours_start:
            return self.start
        if self.split_hours:
            return self.split_hours[0]
        return self.hours_end if self.hours_end < self.end else None

    @property
    def raw_fraction(self) -> float:
        """The part of the range that is read from events, from 0 to 1."""
        edges = (self.hours_start - self.start) + (self.end - self.hours_end)
        return (edges + len(self.split_hours) * HOUR) / (self.end - self.start)


def plan_query(query: AggregateQuery, closed: datetime) -> ReadPlan:
    """Rollups hold neither tags nor percentiles, and no parts of an hour."""
    buckets = query.buckets
    by_tag = query.tags is not None or query.group_by is GroupBy.TAG
    if (
        by_tag
        or not PERCENTILES.keys().isdisjoint(query.stats)
        or (isinstance(buckets, Fixed) and not buckets.whole_hours)
    ):
        return ReadPlan(query.start, query.end, query.end, query.end)
    plan = plan_range(query.start, query.end, closed)
    if isinstance(buckets, Fixed) or not plan.uses_rollups:
        return plan
    return replace(plan, split_hours=buckets.split_hours(plan.hours_start, plan.hours_end))


def plan_range(start: datetime, end: datetime, closed: datetime) -> ReadPlan:
    """The plan for a range that is not divided into buckets."""
    first, last = whole_hour_from(start), min(whole_hour(end), closed)
    hours = (first, last) if first < last else (end, end)
    return ReadPlan(start, end, *hours)


def whole_hour_from(at: datetime) -> datetime:
    """The first whole hour that does not begin before an instant."""
    hour = whole_hour(at)
    return hour if hour == at else hour + HOUR


def parse_stats(text: str) -> tuple[Stat, ...]:
    """Read a comma-separated list. Raises InvalidRequest."""
    names = set(text.split(","))
    if unknown := sorted(names - set(Stat)):
        raise InvalidRequest(
            f"stats: {', '.join(unknown)[:64]!r} is unknown; use a comma-separated list of {', '.join(Stat)}."
        )
    return tuple(stat for stat in Stat if stat in names)
