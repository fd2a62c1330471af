"""Devices: registration, and the fleet in numbers."""

from typing import Annotated, Any

from litestar import Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from api.http.bodies import operation_with_body, read_body, require_json_or_csv, require_same
from api.http.cursor import fingerprint, read_cursor
from api.http.pages import json_text, page
from api.http.params import Cursor, DeviceIdPath, PageLimit, optional_name, require_no_nul
from api.imports.faults import ROWS_MAX
from api.imports.store import IMPORT_BYTES_MAX, Imported, ImportStore
from api.latest.store import LatestStore
from api.store.devices import DeviceStore
from api.store.registry import RegistryStore
from runtime.errors import InvalidRequest
from schema.presence import PresenceState
from schema.registry import BAD_DEVICE_ID, DeviceBody, NewDeviceBody, is_device_id

WithEvents = Annotated[  # `events` is the service that queries them.
    bool | None,
    QueryParameter(name="events", description="true: delete its events, keys and rollups, too"),
]


@get("/v1/devices", summary="Devices with their presence, by id", tags=["Devices"])
async def list_devices(
    request: Request[Any, Any, Any],
    devices: NamedDependency[DeviceStore],
    latest_values: NamedDependency[LatestStore],
    in_state: Annotated[
        str | None,
        QueryParameter(name="state", enum=list(PresenceState), description="Only in this state"),
    ] = None,
    tag: Annotated[
        str | None, QueryParameter(description="Only with this tag in the registry")
    ] = None,
    q: Annotated[
        str | None, QueryParameter(description="Only with this text in the id or name")
    ] = None,
    with_latest: Annotated[  # `latest` is a route.
        bool | None,
        QueryParameter(name="latest", description="true: also the newest values, as in /v1/latest"),
    ] = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    state = optional_name("state", in_state, PresenceState)
    require_no_nul("tag", tag)
    require_no_nul("q", q)
    query_hash = fingerprint("devices", in_state, tag, q)
    key = read_cursor(cursor, query_hash, 1)
    found = await devices.page("" if key is None else str(key[0]), state, tag, q, limit)
    rows = await latest_values.added_to(found) if with_latest else found
    return page(request, rows, limit, query_hash, lambda row: [row["device_id"]])


@get(
    "/v1/devices/summary",
    summary="How many devices there are in each state",
    description="Also how many there are in all, how many are flapping, and how many incidents are open.",
    tags=["Devices"],
)
async def fleet_summary(devices: NamedDependency[DeviceStore]) -> Response[bytes]:
    return json_text(await devices.fleet())


@get("/v1/devices/{device_id:str}", summary="One device", tags=["Devices"])
async def one_device(
    devices: NamedDependency[DeviceStore], device_id: DeviceIdPath
) -> Response[bytes]:
    return json_text(await devices.one(device_id))


@post(
    "/v1/devices",
    operation_class=operation_with_body(NewDeviceBody.model_json_schema()),
    summary="Register a device",
    description="It may exist already, from its first message. The registration applies to every event"
    " received after the response.",
    tags=["Devices"],
)
async def add_device(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
) -> Response[bytes]:
    body = await read_body(request, NewDeviceBody)
    return json_text(await registry.add_device(body), status=201)


@post(
    "/v1/devices/import",
    request_max_body_size=IMPORT_BYTES_MAX,
    operation_class=operation_with_body(
        {
            "type": "array",
            "minItems": 1,
            "maxItems": ROWS_MAX,
            "items": NewDeviceBody.model_json_schema(),
        },
        or_csv=True,
    ),
    summary="Register many devices, all or none",
    description="A CSV file, whose columns are the fields, or an array. Each row replaces a whole"
    " registration, as a PUT does. 201 if a device is new.",
    tags=["Devices"],
)
async def import_devices(
    request: Request[Any, Any, Any], imports: NamedDependency[ImportStore]
) -> Response[Imported]:
    is_csv = require_json_or_csv(request)
    imported = await imports.run(await request.body(), is_csv=is_csv)
    return Response(imported, status_code=201 if imported.created else 200)


@put(
    "/v1/devices/{device_id:str}",
    operation_class=operation_with_body(DeviceBody.model_json_schema()),
    summary="Register a device, or replace its whole registration",
    tags=["Devices"],
)
async def put_device(
    request: Request[Any, Any, Any],
    registry: NamedDependency[RegistryStore],
    device_id: DeviceIdPath,
) -> Response[bytes]:
    if not is_device_id(device_id):
        raise InvalidRequest(BAD_DEVICE_ID)
    body = await read_body(request, DeviceBody)
    require_same("device_id", body.device_id, device_id)
    device, created = await registry.put_device(device_id, body)
    return json_text(device, status=201 if created else 200)


@delete(
    "/v1/devices/{device_id:str}",
    summary="Forget a device",
    description="Its registration, credentials, presence and incidents. With events that are kept it stays"
    " in the list as never_seen; else it does not exist until something of it is received.",
    tags=["Devices"],
)
async def forget_device(
    registry: NamedDependency[RegistryStore],
    device_id: DeviceIdPath,
    with_events: WithEvents = None,
) -> None:
    await registry.forget_device(device_id, with_events=bool(with_events))


@delete(
    "/v1/devices/{device_id:str}/reused_ids",
    summary="Set the count of reused event ids to zero",
    tags=["Devices"],
)
async def reset_reused_ids(
    registry: NamedDependency[RegistryStore], device_id: DeviceIdPath
) -> None:
    await registry.reset_reused_ids(device_id)


def hidden_device(device_id: str) -> list[HTTPRouteHandler]:
    """Handlers for a device whose id is also the path of a route.

    A static path hides `/v1/devices/{device_id}` for every method, its own and all others.
    """
    path = f"/v1/devices/{device_id}"

    @put(path, include_in_schema=False)
    async def replace(
        request: Request[Any, Any, Any], registry: NamedDependency[RegistryStore]
    ) -> Response[bytes]:
        return await put_device.fn(request, registry, device_id)  # type: ignore[no-any-return]

    @delete(path, include_in_schema=False)
    async def forget(
        registry: NamedDependency[RegistryStore], with_events: WithEvents = None
    ) -> None:
        await forget_device.fn(registry, device_id, with_events)

    return [replace, forget]


@get("/v1/devices/import", include_in_schema=False)
async def device_named_import(devices: NamedDependency[DeviceStore]) -> Response[bytes]:
    return json_text(await devices.one("import"))
