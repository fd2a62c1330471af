"""POST of one event or a batch, answered 200 after the commit."""

from functools import partial
from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from pydantic import TypeAdapter

from api.auth.caller import caller
from api.http.bodies import operation_with_body, require_json
from api.ingest.door import BATCH_BYTES_MAX, HttpDoor
from api.ingest.fast_posts import FastPath
from schema.event import AUTO_ID, MAX_ITEMS, RANDOM_ID, STORED, EventBody, Verdict

_EVENT_SCHEMA = TypeAdapter(EventBody).json_schema()
# Items are checked one by one, so a bad item does not affect the others.
_BATCH_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_ITEMS,
    "items": {"anyOf": [_EVENT_SCHEMA, {}]},
}
_DERIVED = (AUTO_ID, RANDOM_ID)


@post(
    ["/v1/events", "/telemetry"],
    status_code=200,
    operation_class=operation_with_body(_EVENT_SCHEMA),
    summary="Store one event",
    description="`ok` if it is stored now, `duplicate` if its (device_id, event_id) was stored before;"
    " with the reason `other_content` if that was an event of another time.",
    tags=["Events"],
)
async def post_event(
    request: Request[Any, Any, Any], door: NamedDependency[HttpDoor]
) -> dict[str, str]:
    require_json(request)
    return await _event_response(door, await request.body())


@post(
    "/v1/events/batch",
    status_code=200,
    operation_class=operation_with_body(_BATCH_SCHEMA),
    summary="Store up to 1,000 events",
    description="One result per event, in order; a rejected item does not affect the others.",
    tags=["Events"],
)
async def post_batch(
    request: Request[Any, Any, Any], door: NamedDependency[HttpDoor]
) -> Response[list[dict[str, str | None]]]:
    require_json(request)
    return Response(await _batch_response(door, await request.body()))


def fast_posts(door: HttpDoor, payload_bytes_max: int) -> dict[str, FastPath]:
    """The same handlers by path, for posts that do not go through Litestar."""
    event = FastPath(partial(_event_response, door), payload_bytes_max)
    batch = FastPath(partial(_batch_response, door), BATCH_BYTES_MAX)
    return {"/v1/events": event, "/telemetry": event, "/v1/events/batch": batch}


async def _event_response(door: HttpDoor, body: bytes) -> dict[str, str]:
    verdict = await door.post_event(body, caller().device_id)
    shown = {"status": "ok" if verdict.status is STORED else str(verdict.status)}
    if verdict.event_id is not None and verdict.event_id.startswith(_DERIVED):
        shown["event_id"] = verdict.event_id
    if verdict.reason is not None:
        shown["reason"] = str(verdict.reason)
    return shown


async def _batch_response(door: HttpDoor, body: bytes) -> list[dict[str, str | None]]:
    return [_result(verdict) for verdict in await door.post_batch(body, caller().device_id)]


def _result(verdict: Verdict) -> dict[str, str | None]:
    result: dict[str, str | None] = {"event_id": verdict.event_id, "status": str(verdict.status)}
    if verdict.reason is not None:
        result["reason"] = str(verdict.reason)
    return result
