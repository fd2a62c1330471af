"""Devices as the registry and presence know them."""

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.cursor import question, read_cursor
from api.pages import json_text, page
from api.params import Cursor, DeviceIdPath, Limit
from api.store import QueryStore
from schema.errors import InvalidRequest
from schema.presence import PresenceState


@get("/v1/devices", summary="Devices with their presence, by id", tags=["Devices"])
async def list_devices(
    request: Request[Any, Any, Any],
    store: NamedDependency[QueryStore],
    in_state: Annotated[
        str | None,
        QueryParameter(name="state", enum=list(PresenceState), description="Only in this state"),
    ] = None,
    tag: Annotated[
        str | None, QueryParameter(description="Only with this tag of the registry")
    ] = None,
    q: Annotated[
        str | None, QueryParameter(description="Only with this text in id or name")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    if in_state is not None and in_state not in set(PresenceState):
        raise InvalidRequest(f"state: one of {', '.join(PresenceState)}.")
    if any("\0" in text for text in (tag, q) if text is not None):
        raise InvalidRequest("tag and q: without NUL.")
    asked = question("devices", in_state, tag, q)
    key = read_cursor(cursor, asked, 1)
    rows = await store.devices("" if key is None else str(key[0]), in_state, tag, q, limit)
    return page(request, rows, limit, asked, lambda row: [row["device_id"]])


@get("/v1/devices/{device_id:str}", summary="One device", tags=["Devices"])
async def one_device(
    store: NamedDependency[QueryStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await store.one_device(device_id))


@get(
    "/v1/devices/{device_id:str}/latest",
    summary="The newest value of each metric of a device",
    tags=["Devices"],
)
async def device_latest(
    store: NamedDependency[QueryStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await store.latest(device_id))


@get("/v1/devices/{device_id:str}/presence", summary="Presence of a device", tags=["Devices"])
async def device_presence(
    store: NamedDependency[QueryStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await store.presence(device_id))
