"""POST of events: one, or a batch. Answered 200 after the commit."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from pydantic import TypeAdapter

from api.http.bodies import inlined, json_body, require_json
from api.ingest.door import BATCH_BYTES_MAX, HttpDoor
from api.ingest.fast_posts import FastPath
from schema.event import AUTO_ID, MAX_ITEMS, RANDOM_ID, EventBody, Status, Verdict

_SCHEMA_OF_EVENT = inlined(TypeAdapter(EventBody).json_schema())
_DERIVED = (AUTO_ID, RANDOM_ID)


@dataclass
class PostEventOperation(Operation):
    """The body is read as bytes: its schema is written down here."""

    def __post_init__(self) -> None:
        self.request_body = json_body(_SCHEMA_OF_EVENT)


@dataclass
class PostBatchOperation(Operation):
    def __post_init__(self) -> None:
        # Items are judged one by one, so that a bad item never touches its neighbours.
        self.request_body = json_body(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_ITEMS,
                "items": {"anyOf": [_SCHEMA_OF_EVENT, {}]},
            }
        )


@post(
    ["/v1/events", "/telemetry"],
    status_code=200,
    operation_class=PostEventOperation,
    summary="Store one event",
    description="`ok` when it is stored, `duplicate` when its (device_id, event_id) was stored before.",
    tags=["Events"],
)
async def post_event(
    request: Request[Any, Any, Any], door: NamedDependency[HttpDoor]
) -> dict[str, str]:
    require_json(request)
    return await _answer_event(door, await request.body())


@post(
    "/v1/events/batch",
    status_code=200,
    operation_class=PostBatchOperation,
    summary="Store up to 1,000 events",
    description="One result per event, in order; a rejected item never touches its neighbours.",
    tags=["Events"],
)
async def post_batch(
    request: Request[Any, Any, Any], door: NamedDependency[HttpDoor]
) -> Response[list[dict[str, str | None]]]:
    require_json(request)
    return Response(await _answer_batch(door, await request.body()))


def fast_posts(door: HttpDoor, payload_bytes_max: int) -> dict[str, FastPath]:
    """The same by path, for posts that do not go through Litestar."""
    event = FastPath(partial(_answer_event, door), payload_bytes_max)
    batch = FastPath(partial(_answer_batch, door), BATCH_BYTES_MAX)
    return {"/v1/events": event, "/telemetry": event, "/v1/events/batch": batch}


async def _answer_event(door: HttpDoor, body: bytes) -> dict[str, str]:
    verdict = await door.post_event(body)
    answer = {"status": "ok" if verdict.status is Status.STORED else str(verdict.status)}
    if verdict.event_id is not None and verdict.event_id.startswith(_DERIVED):
        answer["event_id"] = verdict.event_id
    return answer


async def _answer_batch(door: HttpDoor, body: bytes) -> list[dict[str, str | None]]:
    return [_result(verdict) for verdict in await door.post_batch(body)]


def _result(verdict: Verdict) -> dict[str, str | None]:
    result: dict[str, str | None] = {"event_id": verdict.event_id, "status": str(verdict.status)}
    if verdict.reason is not None:
        result["reason"] = str(verdict.reason)
    return result
