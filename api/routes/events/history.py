"""Events of a device: as a list, as points, as the summary of a day; and those that are missing."""

from datetime import timedelta
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.aggregate.completeness import CompletenessStore
from api.aggregate.store import AggregateStore
from api.http.cursor import fingerprint, instant_of, number_of, read_cursor
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
    required_range,
    time_range,
    time_zone,
)
from api.store.devices import DeviceStore
from api.store.events import METRICS_POINTS_MAX, EventStore, key_of
from api.store.registry import RegistryStore
from runtime.errors import InvalidRequest
from schema.event import MAX_EXACT_INTEGER
from schema.instants import LATEST

METRICS_DAYS_MAX = 8


@get(
    "/v1/devices/{device_id:str}/events",
    summary="Events of a device, newest first",
    tags=["Events"],
)
async def device_events(
    request: Request[Any, Any, Any],
    events: NamedDependency[EventStore],
    device_id: DeviceIdPath,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    start, end = time_range(from_time, to_time)
    query_hash = fingerprint("events", device_id, start, end)
    key = read_cursor(cursor, query_hash, 2)
    after = None if key is None else (instant_of(key[0]), str(key[1]))
    rows = await events.events(device_id, start, end, after=after, limit=limit)
    return page(request, rows, limit, query_hash, lambda row: key_of(row["body"]))


@get(
    "/devices/{device_id:str}/metrics",
    summary="Points of a device, oldest first",
    description=f"At most {METRICS_DAYS_MAX} days and the first {METRICS_POINTS_MAX:,} points.",
    tags=["Queries"],
)
async def device_metrics(
    devices: NamedDependency[DeviceStore],
    events: NamedDependency[EventStore],
    device_id: DeviceIdPath,
    start_time: RequiredTime,
    end_time: RequiredTime,
) -> Response[bytes]:
    start, end = required_range(start_time, end_time, ("start_time", "end_time"))
    if end - start > timedelta(days=METRICS_DAYS_MAX):
        raise InvalidRequest(
            f"The range is longer than {METRICS_DAYS_MAX} days; request a shorter one."
        )
    device = await devices.known(device_id)
    return json_text(await events.metrics(device, start, end))


@get(
    "/devices/{device_id:str}/summary",
    summary="Count, minimum, maximum and average per metric of one day",
    description="A day without events has the metrics of the profile, with zeros and count 0. `completeness`"
    " is there if events of the day have a seq.",
    tags=["Queries"],
)
async def device_summary(
    devices: NamedDependency[DeviceStore],
    registry: NamedDependency[RegistryStore],
    aggregates: NamedDependency[AggregateStore],
    completeness: NamedDependency[CompletenessStore],
    device_id: DeviceIdPath,
    date: Annotated[
        str,
        QueryParameter(
            description="A calendar day such as 2026-02-01", schema_extra={"format": "date"}
        ),
    ],
    tz: TimeZone = "UTC",
) -> dict[str, Any]:
    zone = time_zone(tz)
    day, start, end = day_in(zone, date)
    device = await devices.known(device_id)
    metrics = await aggregates.summary(device.device_no, start, end)
    if not metrics:
        names = await registry.profile_metrics(device.profile)
        metrics = {name: {"count": 0, "min": 0, "max": 0, "avg": 0} for name in names}
    shown = {
        "device_id": device.device_id,
        "date": day.isoformat(),
        "tz": zone.key,
        "metrics": metrics,
    }
    found = await completeness.of_range(device.device_no, start, end)
    return shown if found is None else shown | {"completeness": found.shown()}


@get(
    "/v1/devices/{device_id:str}/gaps",
    summary="Events that a device sent and we did not receive, by seq, newest first",
    description="A gap has the time of its later end. It is gone once the missing events have arrived.",
    tags=["Events"],
)
async def device_gaps(
    request: Request[Any, Any, Any],
    devices: NamedDependency[DeviceStore],
    completeness: NamedDependency[CompletenessStore],
    device_id: DeviceIdPath,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    start, end = time_range(from_time, to_time)
    query_hash = fingerprint("gaps", device_id, start, end)
    device = await devices.known(device_id)
    key = read_cursor(cursor, query_hash, 2) or [LATEST, 0]
    after = instant_of(key[0]), number_of(key[1], MAX_EXACT_INTEGER)
    rows = await completeness.gaps(device.device_no, start, end, after, limit)
    return page(request, rows, limit, query_hash, lambda row: [row["ts"].isoformat(), row["seq"]])
