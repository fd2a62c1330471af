"""Queries for the statistics of a metric over time, and the plan of what to read for them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from api.aggregate.buckets import (
    HOUR,
    Buckets,
    Fixed,
    Offset,
    buckets,
    offset_changes,
    whole_hour,
)
from api.aggregate.conditions import ValueCondition
from api.aggregate.stats import DEFAULT_STATS, PERCENTILES, Stat

UTC = ZoneInfo("UTC")


HOURLY = Fixed(HOUR)


class GroupBy(StrEnum):
    DEVICE = "device"
    TAG = "tag"
    DEVICE_TAG = "device_tag"


class Fill(StrEnum):
    NONE = "none"
    NULL = "null"
    PREVIOUS = "previous"
    LINEAR = "linear"


class Format(StrEnum):
    ROWS = "rows"
    COLUMNS = "columns"


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    """Over the half-open range [start, end).

    No device_ids and no device_tags: the fleet; `tags` is a tsquery, None: any. `prefixes`: by which tags are
    grouped, if not by all.
    """

    metrics: tuple[str, ...]
    device_ids: tuple[str, ...]
    tags: str | None
    start: datetime
    end: datetime
    buckets: Buckets = HOURLY
    offsets: Sequence[Offset] = ()
    group_by: tuple[GroupBy, ...] = ()
    fill: Fill = Fill.NONE
    stats: tuple[Stat, ...] = DEFAULT_STATS
    device_tags: tuple[str, ...] = ()
    prefixes: Mapping[GroupBy, str] = field(default_factory=dict)
    where: tuple[ValueCondition, ...] = ()
    having: tuple[ValueCondition, ...] = ()
    format: Format = Format.ROWS
    zone: ZoneInfo = UTC

    def of(self, interval: str) -> "AggregateQuery":
        """The same query with another interval. A century of days takes a fraction of a second."""
        found = buckets(interval, self.zone, self.start, self.end)
        offsets = offset_changes(self.zone, found.first(self.start), self.end)
        return replace(self, buckets=found, offsets=offsets)

    @property
    def fixed_groups(self) -> int | None:
        """How many groups a filled response has, if that does not depend on what is stored."""
        return None if self.group_by else len(self.metrics)


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
    """Rollups hold neither tags of events nor percentiles, no other metrics, and no parts of an hour."""
    found = query.buckets
    by_tag = query.tags is not None or GroupBy.TAG in query.group_by
    if (
        by_tag
        or query.where
        or not PERCENTILES.keys().isdisjoint(query.stats)
        or (isinstance(found, Fixed) and not found.whole_hours)
    ):
        return ReadPlan(query.start, query.end, query.end, query.end)
    plan = plan_range(query.start, query.end, closed)
    if isinstance(found, Fixed) or not plan.uses_rollups:
        return plan
    return replace(plan, split_hours=found.split_hours(plan.hours_start, plan.hours_end))


def plan_range(start: datetime, end: datetime, closed: datetime) -> ReadPlan:
    """The plan for a range that is not divided into buckets."""
    first, last = whole_hour_from(start), min(whole_hour(end), closed)
    hours = (first, last) if first < last else (end, end)
    return ReadPlan(start, end, *hours)


def whole_hour_from(at: datetime) -> datetime:
    """The first whole hour that does not begin before an instant."""
    hour = whole_hour(at)
    return hour if hour == at else hour + HOUR
