"""Presence of a device, now and over time. Its stream is in api/routes/streams/feed.py."""

from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency

from api.http.cursor import fingerprint, number_of, read_cursor
from api.http.pages import json_text, page
from api.http.params import Cursor, DeviceIdPath, FromTime, PageLimit, ToTime, time_range
from api.store.devices import DeviceStore
from schema.feed import NOTIFICATION_DAYS_KEPT

BIGINT_MAX, INT_MAX = 2**63 - 1, 2**31 - 1
NEWEST = [BIGINT_MAX, 0]


@get("/v1/devices/{device_id:str}/presence", summary="Presence of a device", tags=["Devices"])
async def device_presence(
    devices: NamedDependency[DeviceStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await devices.presence(device_id))


@get(
    "/v1/devices/{device_id:str}/presence/history",
    summary="Changes of presence of a device, newest first",
    description=f"Kept for {NOTIFICATION_DAYS_KEPT} days; the newest one for longer.",
    tags=["Devices"],
)
async def presence_history(
    request: Request[Any, Any, Any],
    devices: NamedDependency[DeviceStore],
    device_id: DeviceIdPath,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    start, end = time_range(from_time, to_time)
    query_hash = fingerprint("presence history", device_id, start, end)
    block, n = read_cursor(cursor, query_hash, 2) or NEWEST
    after = number_of(block, BIGINT_MAX), number_of(n, INT_MAX)
    rows = await devices.presence_history(device_id, start, end, after, limit)
    return page(request, rows, limit, query_hash, lambda row: [row["block"], row["n"]])
