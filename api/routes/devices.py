"""Devices as the registry and presence know them."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import QueryParameter

from api.http.bodies import inlined, json_body, read_body, require_same
from api.http.cursor import question, read_cursor
from api.http.pages import json_text, page
from api.http.params import Cursor, DeviceIdPath, PageLimit
from api.store.events import EventStore
from api.store.registry import RegistryStore
from runtime.errors import InvalidRequest
from schema.presence import PresenceState
from schema.registry import DeviceBody, NewDeviceBody, is_device_id


@dataclass
class AddDeviceOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = json_body(inlined(NewDeviceBody.model_json_schema()))


@dataclass
class PutDeviceOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = json_body(inlined(DeviceBody.model_json_schema()))


@get("/v1/devices", summary="Devices with their presence, by id", tags=["Devices"])
async def list_devices(
    request: Request[Any, Any, Any],
    store: NamedDependency[EventStore],
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
    limit: PageLimit = 100,
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
    store: NamedDependency[EventStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await store.one_device(device_id))


@post(
    "/v1/devices",
    operation_class=AddDeviceOperation,
    summary="Register a device",
    description="It may exist already, from its first message. In force for each event received after.",
    tags=["Devices"],
)
async def add_device(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
) -> Response[bytes]:
    body = await read_body(request, NewDeviceBody)
    return json_text(await registry.add_device(body), status=201)


@put(
    "/v1/devices/{device_id:str}",
    operation_class=PutDeviceOperation,
    summary="Register a device, or replace its registration as a whole",
    tags=["Devices"],
)
async def put_device(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
    device_id: DeviceIdPath,
) -> Response[bytes]:
    if not is_device_id(device_id):
        raise InvalidRequest("device_id: a letter or digit, then up to 127 of [A-Za-z0-9._:-].")
    body = await read_body(request, DeviceBody)
    require_same("device_id", body.device_id, device_id)
    device, created = await registry.put_device(device_id, body)
    return json_text(device, status=201 if created else 200)


@delete(
    "/v1/devices/{device_id:str}",
    summary="Forget the registration of a device",
    description="Its events stay, and with them the device.",
    tags=["Devices"],
)
async def forget_device(registry: NamedDependency[RegistryStore], device_id: DeviceIdPath) -> None:
    await registry.forget_device(device_id)


@get(
    "/v1/devices/{device_id:str}/latest",
    summary="The newest value of each metric of a device",
    tags=["Devices"],
)
async def device_latest(
    store: NamedDependency[EventStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await store.latest(device_id))


@get("/v1/devices/{device_id:str}/presence", summary="Presence of a device", tags=["Devices"])
async def device_presence(
    store: NamedDependency[EventStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await store.presence(device_id))
