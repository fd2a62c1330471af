"""Questions about events: of one device, as points, as a day's summary."""

from datetime import timedelta
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.aggregate.store import AggregateStore
from api.http.cursor import instant_of, question, read_cursor
from api.http.pages import json_text, page
from api.http.params import (
    Cursor,
    DeviceIdPath,
    FromTime,
    PageLimit,
    RequiredTime,
    TimeZone,
    ToTime,
    day_in,
    instant,
    time_range,
    time_zone,
)
from api.store.events import METRICS_POINTS_MAX, EventStore
from runtime.errors import InvalidRequest

METRICS_DAYS_MAX = 8


@get(
    "/v1/devices/{device_id:str}/events",
    summary="Events of a device, newest first",
    tags=["Events"],
)
async def device_events(
    request: Request[Any, Any, Any],
    store: NamedDependency[EventStore],
    device_id: DeviceIdPath,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    start, end = time_range(from_time, to_time)
    asked = question("events", device_id, start, end)
    device = await store.device(device_id)
    key = read_cursor(cursor, asked, 2)
    after = None if key is None else (instant_of(key[0]), str(key[1]))
    rows = await store.events(device, start, end, after=after, limit=limit)
    return page(request, rows, limit, asked, lambda row: [row["ts"].isoformat(), row["event_id"]])


@get(
    "/devices/{device_id:str}/metrics",
    summary="Points of a device, oldest first",
    description=f"At most {METRICS_DAYS_MAX} days and the first {METRICS_POINTS_MAX:,} points.",
    tags=["Questions"],
)
async def device_metrics(
    store: NamedDependency[EventStore],
    device_id: DeviceIdPath,
    start_time: RequiredTime,
    end_time: RequiredTime,
) -> Response[bytes]:
    start, end = instant("start_time", start_time), instant("end_time", end_time)
    if start >= end:
        raise InvalidRequest("start_time must be before end_time.")
    if end - start > timedelta(days=METRICS_DAYS_MAX):
        raise InvalidRequest(f"The range is longer than {METRICS_DAYS_MAX} days: ask for less.")
    device = await store.device(device_id)
    return json_text(await store.metrics(device, start, end))


@get(
    "/devices/{device_id:str}/summary",
    summary="Count, minimum, maximum and average per metric of one day",
    description="On a day without events: the metrics of the profile with zeros and count 0.",
    tags=["Questions"],
)
async def device_summary(
    store: NamedDependency[EventStore],
    aggregates: NamedDependency[AggregateStore],
    device_id: DeviceIdPath,
    date: Annotated[
        str,
        QueryParameter(
            description="A calendar day such as 2026-02-01", schema_extra={"format": "date"}
        ),
    ],
    tz: TimeZone = "UTC",
) -> dict[str, Any]:
    day, start, end = day_in(time_zone(tz), date)
    device = await store.device(device_id)
    metrics = await aggregates.summary(device.device_no, start, end)
    if not metrics:
        names = await store.profile_metrics(device.profile)
        metrics = {name: {"count": 0, "min": 0, "max": 0, "avg": 0} for name in names}
    return {"device_id": device.device_id, "date": day.isoformat(), "tz": tz, "metrics": metrics}
