"""Aggregates over time buckets."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.aggregate.buckets import CENTURY, DAY, Buckets, Offset, buckets, offset_changes
from api.aggregate.query import DEFAULT_STATS, AggregateQuery, Fill, GroupBy, Stat, parse_stats
from api.aggregate.store import AGGREGATE_ROWS_MAX, AggregateStore
from api.http.pages import json_text
from api.http.params import (
    DEVICES_MAX,
    TAGS_MAX,
    RequiredTime,
    TimeZone,
    known_name,
    optional_name,
    require_no_nul,
    required_range,
    short_texts,
    time_zone,
)
from api.store.tags import tags_query
from schema.instants import EARLIEST, LATEST


@get(
    "/v1/metrics/aggregate",
    summary="Statistics of a metric per time bucket",
    description="Covers some devices, events with certain tags, or the fleet. With `fill` none only buckets"
    f" with events are rows. At most {AGGREGATE_ROWS_MAX:,} rows.",
    tags=["Queries"],
)
async def aggregate(
    aggregates: NamedDependency[AggregateStore],
    metric: Annotated[str, QueryParameter(min_length=1, max_length=128)],
    from_time: RequiredTime,
    to_time: RequiredTime,
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="May be repeated; absent: the fleet"),
    ] = None,
    tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="A tag of the event; repeat it for AND"),
    ] = None,
    interval: Annotated[
        str,
        QueryParameter(
            description="30s, 5m, 1h: from the Unix epoch; 1d, 1w, 1mo: calendar periods of `tz`"
        ),
    ] = "1m",
    group_by: Annotated[
        str | None,
        QueryParameter(enum=list(GroupBy), description="One row per bucket and device or tag"),
    ] = None,
    tz: TimeZone = "UTC",
    fill: Annotated[
        str, QueryParameter(enum=list(Fill), description="The values of buckets without events")
    ] = Fill.NONE,
    stats: Annotated[
        str, QueryParameter(description=f"A comma-separated list of {', '.join(Stat)}")
    ] = ",".join(DEFAULT_STATS),
) -> Response[bytes]:
    start, end = required_range(from_time, to_time)
    require_no_nul("metric", metric)
    require_no_nul("device_id", *(device_id or ()))
    filling = known_name("fill", fill, Fill)
    start, end = can_hold_events(start, end, datetime.now(UTC), filled=filling is not Fill.NONE)
    zone = time_zone(tz)
    # A century of days takes a fraction of a second to compute, so it runs outside the event loop.
    found, offsets = await asyncio.to_thread(_compute_buckets, interval, zone, start, end)
    query = AggregateQuery(
        metric=metric,
        device_ids=tuple(device_id or ()),
        tags=tags_query(short_texts("tag", tag)),
        start=start,
        end=end,
        buckets=found,
        offsets=offsets,
        group_by=optional_name("group_by", group_by, GroupBy),
        fill=filling,
        stats=parse_stats(stats),
    )
    return json_text("[]" if start >= end else await aggregates.answer(query))


def can_hold_events(
    start: datetime, end: datetime, now: datetime, *, filled: bool
) -> tuple[datetime, datetime]:
    """The part of a range that can hold events, given the widest window that settings allow."""
    first, last = (EARLIEST, LATEST) if filled else (now - CENTURY - DAY, now + 32 * DAY)
    return max(start, first), min(end, last)


def _compute_buckets(
    interval: str, zone: ZoneInfo, start: datetime, end: datetime
) -> tuple[Buckets, list[Offset]]:
    found = buckets(interval, zone, start, end)
    return found, offset_changes(zone, found.first(start), end)
