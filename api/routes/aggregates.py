"""Aggregates over time buckets."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.aggregate.buckets import CENTURY, DAY, Buckets, Offset, buckets, offset_changes
from api.aggregate.query import USUAL_STATS, AggregateQuery, Fill, GroupBy, Stat, parse_stats
from api.aggregate.store import AGGREGATE_ROWS_MAX, AggregateStore
from api.http.pages import json_text
from api.http.params import DEVICES_MAX, RequiredTime, TimeZone, instant, known_name, time_zone
from api.store.tags import TAGS_MAX, tag_texts, wanted
from runtime.errors import InvalidRequest
from schema.instants import EARLIEST, LATEST


@get(
    "/v1/metrics/aggregate",
    summary="Statistics of a metric per bucket of time",
    description="Of some devices, of what carries tags, or of the fleet. With `fill` none only buckets that"
    f" hold events are rows. At most {AGGREGATE_ROWS_MAX:,} rows.",
    tags=["Questions"],
)
async def aggregate(
    aggregates: NamedDependency[AggregateStore],
    metric: Annotated[str, QueryParameter(min_length=1, max_length=128)],
    from_time: RequiredTime,
    to_time: RequiredTime,
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="Repeat it; absent: the fleet"),
    ] = None,
    tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="Of the event; repeat it for AND"),
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
        str, QueryParameter(enum=list(Fill), description="What buckets without events show")
    ] = Fill.NONE,
    stats: Annotated[
        str, QueryParameter(description=f"A comma list of {', '.join(Stat)}")
    ] = ",".join(USUAL_STATS),
) -> Response[bytes]:
    start, end = instant("from_time", from_time), instant("to_time", to_time)
    if start >= end:
        raise InvalidRequest("from_time must be before to_time.")
    if any("\0" in text for text in (metric, *(device_id or ()))):
        raise InvalidRequest("metric and device_id: without NUL.")
    filling = known_name("fill", fill, Fill)
    start, end = can_hold_events(start, end, datetime.now(UTC), filled=filling is not Fill.NONE)
    zone = time_zone(tz)
    # A century of days takes a fraction of a second: nobody else is to wait for it.
    found, offsets = await asyncio.to_thread(_reckon, interval, zone, start, end)
    question = AggregateQuery(
        metric=metric,
        device_ids=tuple(device_id or ()),
        tags=wanted(tag_texts("tag", tag)),
        start=start,
        end=end,
        buckets=found,
        offsets=offsets,
        group_by=known_name("group_by", group_by, GroupBy) if group_by is not None else None,
        fill=filling,
        stats=parse_stats(stats),
    )
    return json_text("[]" if start >= end else await aggregates.answer(question))


def can_hold_events(
    start: datetime, end: datetime, now: datetime, *, filled: bool
) -> tuple[datetime, datetime]:
    """The part of a range in which an event may be, by the widest window that settings allow."""
    first, last = (EARLIEST, LATEST) if filled else (now - CENTURY - DAY, now + 32 * DAY)
    return max(start, first), min(end, last)


def _reckon(
    interval: str, zone: ZoneInfo, start: datetime, end: datetime
) -> tuple[Buckets, list[Offset]]:
    found = buckets(interval, zone, start, end)
    return found, offset_changes(zone, found.first(start), end)
