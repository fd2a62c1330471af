"""Aggregates over time buckets."""

from datetime import UTC, datetime
from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.aggregate.buckets import CENTURY, DAY
from api.aggregate.conditions import CONDITIONS_MAX, parse_having, parse_where
from api.aggregate.intervals import AUTO, INTERVALS
from api.aggregate.query import AggregateQuery, Fill, Format, GroupBy
from api.aggregate.reader import AGGREGATE_ROWS_MAX
from api.aggregate.response import written
from api.aggregate.stats import DEFAULT_STATS, Stat, parse_stats
from api.aggregate.store import AggregateResponse, AggregateStore
from api.http.pages import json_text
from api.http.params import (
    DEVICES_MAX,
    TAGS_MAX,
    RequiredTime,
    TimeZone,
    known_name,
    require_no_nul,
    required_range,
    short_text,
    short_texts,
    time_zone,
)
from api.store.tags import tags_query
from runtime.errors import InvalidRequest
from schema.instants import EARLIEST, LATEST

METRICS_MAX = 64
GROUP_KEYS_MAX = 2
MAX_POINTS = 500
INTERVAL_HEADER = "X-Interval"


@get(
    "/v1/metrics/aggregate",
    summary="Statistics of metrics per time bucket",
    description="Covers some devices, events with certain tags, or the fleet. With `fill` none only buckets"
    f" with events are rows. At most {AGGREGATE_ROWS_MAX:,} rows.",
    tags=["Queries"],
)
async def aggregate(
    aggregates: NamedDependency[AggregateStore],
    metric: Annotated[
        list[str],
        QueryParameter(
            min_items=1,
            max_items=METRICS_MAX,
            description="May be repeated; rows then carry `metric`",
        ),
    ],
    from_time: RequiredTime,
    to_time: RequiredTime,
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="May be repeated; absent: the fleet"),
    ] = None,
    device_tag: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=TAGS_MAX,
            description="A registered tag of the device; repeat it for AND",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="A tag of the event; repeat it for AND"),
    ] = None,
    interval: Annotated[
        str,
        QueryParameter(
            description="30s, 5m, 1h: from the Unix epoch; 1d, 1w, 1mo: calendar periods of `tz`; auto:"
            f" the shortest of {', '.join(INTERVALS)} with at most `max_points` buckets per group that is not"
            f" refused, named in {INTERVAL_HEADER}",
        ),
    ] = "1m",
    max_points: Annotated[
        int | None,
        QueryParameter(
            ge=1,
            le=AGGREGATE_ROWS_MAX,
            description=f"Buckets per group, with `interval={AUTO}`; {MAX_POINTS} if absent",
        ),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=GROUP_KEYS_MAX,
            description=f"One or two of {', '.join(GroupBy)}, repeated or as a comma-separated list: one row"
            " per bucket and group",
        ),
    ] = None,
    tag_prefix: Annotated[
        str | None,
        QueryParameter(
            min_length=1, max_length=128, description="Group only by tags of events that begin so"
        ),
    ] = None,
    device_tag_prefix: Annotated[
        str | None,
        QueryParameter(
            min_length=1,
            max_length=128,
            description="Group only by registered tags that begin so",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=CONDITIONS_MAX,
            description="A condition on a metric of the same event; repeat it for AND",
        ),
    ] = None,
    having: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=CONDITIONS_MAX,
            description="A condition on one of `stats`, before `fill`; repeat it for AND",
        ),
    ] = None,
    tz: TimeZone = "UTC",
    fill: Annotated[
        str, QueryParameter(enum=list(Fill), description="The values of buckets without events")
    ] = Fill.NONE,
    stats: Annotated[
        str, QueryParameter(description=f"A comma-separated list of {', '.join(Stat)}")
    ] = ",".join(DEFAULT_STATS),
    format: Annotated[  # noqa: A002  # The name of the parameter in the contract.
        str,
        QueryParameter(
            enum=list(Format), description="columns: an array per column, in an object per group"
        ),
    ] = Format.ROWS,
) -> Response[bytes]:
    start, end = required_range(from_time, to_time)
    require_no_nul("device_id", *(device_id or ()))
    filling, form = known_name("fill", fill, Fill), known_name("format", format, Format)
    start, end = can_hold_events(start, end, datetime.now(UTC), filled=filling is not Fill.NONE)
    wanted, group_keys = parse_stats(stats), parse_group_by(group_by or [])
    query = AggregateQuery(
        metrics=tuple(sorted(set(short_texts("metric", metric)))),
        device_ids=tuple(device_id or ()),
        tags=tags_query(short_texts("tag", tag)),
        start=start,
        end=end,
        group_by=group_keys,
        fill=filling,
        stats=wanted,
        device_tags=tuple(short_texts("device_tag", device_tag)),
        prefixes=parse_prefixes(group_keys, tag_prefix, device_tag_prefix),
        where=parse_where(where or []),
        having=parse_having(having or [], wanted),
        format=form,
        zone=time_zone(tz),
    )
    if max_points is not None and interval != AUTO:
        raise InvalidRequest(f"max_points: it needs interval={AUTO}.")
    response = (
        AggregateResponse(await written(query, None), INTERVALS[0])
        if start >= end
        else await aggregates.respond(query, interval, max_points or MAX_POINTS)
    )
    headers = {INTERVAL_HEADER: response.interval} if interval == AUTO else None
    return json_text(response.body, headers)


def parse_group_by(texts: list[str]) -> tuple[GroupBy, ...]:
    names = [known_name("group_by", name, GroupBy) for text in texts for name in text.split(",")]
    if len(names) > GROUP_KEYS_MAX or len(set(names)) < len(names):
        raise InvalidRequest(f"group_by: it must be one or two of {', '.join(GroupBy)}.")
    return tuple(names)


def parse_prefixes(
    group_by: tuple[GroupBy, ...], tag_prefix: str | None, device_tag_prefix: str | None
) -> dict[GroupBy, str]:
    given = {GroupBy.TAG: tag_prefix, GroupBy.DEVICE_TAG: device_tag_prefix}
    prefixes = {}
    for key, prefix in given.items():
        if prefix is not None:
            if key not in group_by:
                raise InvalidRequest(f"{key}_prefix: it needs group_by={key}.")
            prefixes[key] = short_text(f"{key}_prefix", prefix)
    return prefixes


def can_hold_events(
    start: datetime, end: datetime, now: datetime, *, filled: bool
) -> tuple[datetime, datetime]:
    """The part of a range that can hold events, given the widest window that settings allow."""
    first, last = (EARLIEST, LATEST) if filled else (now - CENTURY - DAY, now + 32 * DAY)
    return max(start, first), min(end, last)
