"""Aggregates over time buckets."""

from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.aggregate_store import AGGREGATE_ROWS_MAX, AggregateStore
from api.buckets import buckets
from api.pages import json_text
from api.params import (
    DEVICES_MAX,
    EARLIEST,
    LATEST,
    RequiredTime,
    TimeZone,
    instant,
    known_name,
    time_zone,
)
from api.questions import USUAL_STATS, Fill, GroupBy, Question, Stat, parse_stats
from api.tags import TAGS_MAX, tag_texts, wanted
from schema.errors import InvalidRequest


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
    start, end = max(start, EARLIEST), min(end, LATEST)  # No event is outside.
    zone = time_zone(tz)
    question = Question(
        metric=metric,
        device_ids=tuple(device_id or ()),
        tags=wanted(tag_texts("tag", tag)),
        start=start,
        end=end,
        buckets=buckets(interval, zone, start, end),
        zone=zone,
        group_by=known_name("group_by", group_by, GroupBy) if group_by is not None else None,
        fill=known_name("fill", fill, Fill),
        stats=parse_stats(stats),
    )
    return json_text("[]" if start >= end else await aggregates.answer(question))
