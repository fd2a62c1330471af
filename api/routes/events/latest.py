"""The newest values of one device and of many."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.http.cursor import fingerprint, read_cursor
from api.http.pages import json_text, page
from api.http.params import (
    DEVICES_MAX,
    TAGS_MAX,
    Cursor,
    DeviceIdPath,
    PageLimit,
    known_name,
    require_no_nul,
    short_texts,
)
from api.latest.store import RECENT_EVENTS, DeviceFilter, LatestStore
from schema.presence import PresenceState

METRICS_MAX = 64  # As in an export.


@get(
    "/v1/latest",
    summary="The newest value of each metric of many devices, by device",
    description="Of the events of the last one or two hours, which have no rollup yet, the newest"
    f" {RECENT_EVENTS} of each device count. `/v1/devices/{{device_id}}/latest` has no such limit.",
    tags=["Devices"],
)
async def latest(
    request: Request[Any, Any, Any],
    latest_values: NamedDependency[LatestStore],
    metric: Annotated[
        list[str] | None,
        QueryParameter(max_items=METRICS_MAX, description="Repeat it: only these metrics"),
    ] = None,
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="Repeat it; absent: the fleet"),
    ] = None,
    device_tag: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=TAGS_MAX, description="Repeat it: the device has all of them in the registry"
        ),
    ] = None,
    in_state: Annotated[
        list[str] | None,
        QueryParameter(
            name="state",
            max_items=len(PresenceState),
            schema_extra={"items": {"type": "string", "enum": list(PresenceState)}},
            description="Repeat it: only in one of these states",
        ),
    ] = None,
    q: Annotated[
        str | None, QueryParameter(description="Only with this text in the id or name")
    ] = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    require_no_nul("q", q)
    metrics = _given("metric", metric)
    states = [known_name("state", each, PresenceState) for each in in_state or ()] or None
    wanted = DeviceFilter(
        _given("device_id", device_id), _given("device_tag", device_tag), states, q
    )
    query_hash = fingerprint("latest", metrics, wanted)
    key = read_cursor(cursor, query_hash, 1)
    rows = await latest_values.page("" if key is None else str(key[0]), wanted, metrics, limit)
    return page(request, rows, limit, query_hash, lambda row: [row["device_id"]])


@get(
    "/v1/devices/{device_id:str}/latest",
    summary="The newest value of each metric of a device",
    tags=["Devices"],
)
async def device_latest(
    latest_values: NamedDependency[LatestStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await latest_values.of_one(device_id))


def _given(name: str, texts: Sequence[str] | None) -> list[str] | None:
    """None where a parameter is absent, which restricts nothing."""
    return short_texts(name, texts) or None
