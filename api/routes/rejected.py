"""Dead letters: looked at, and sent through the pipeline again."""

from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NotRequired

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import PathParameter, QueryParameter
from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from api.http.bodies import inlined, invalid_body, json_body, require_json
from api.http.cursor import number_of, question, read_cursor
from api.http.pages import page
from api.http.params import Cursor, FromTime, PageLimit, ToTime, time_range
from api.ingest.replay import ReplayRunner
from api.store.events import EventStore
from ingestor.replay import ReplaySelection
from runtime.errors import InvalidRequest, NotFound
from schema.event import Door, Reason

BIGINT_MAX = 2**63 - 1
LETTERS_MAX = 1000  # Of one replay.
RAW = "application/octet-stream"

DeadLetterNumber = Annotated[int, Field(ge=1, le=BIGINT_MAX)]


@with_config(ConfigDict(strict=True, extra="forbid"))
class ReplayBody(TypedDict):
    """Which dead letters. What is absent restricts nothing, so null is a wrong value."""

    ids: NotRequired[
        Annotated[
            list[DeadLetterNumber],
            Field(min_length=1, max_length=LETTERS_MAX, description="Also those replayed before"),
        ]
    ]
    device_id: NotRequired[Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]]
    reason: NotRequired[Reason]
    door: NotRequired[Door]
    from_time: NotRequired[
        Annotated[
            str, Field(description="First instant of arrival. RFC 3339; without offset it is UTC")
        ]
    ]
    to_time: NotRequired[Annotated[str, Field(description="First instant after it")]]
    limit: NotRequired[
        Annotated[int, Field(ge=1, le=LETTERS_MAX, description=f"{LETTERS_MAX} if absent")]
    ]
    after: NotRequired[
        Annotated[int, Field(ge=0, le=BIGINT_MAX, description="`next` of the answer before")]
    ]


_body_of_replay = TypeAdapter(ReplayBody)


@dataclass
class ReplayOperation(Operation):
    def __post_init__(self) -> None:
        self.request_body = json_body(inlined(_body_of_replay.json_schema()))


@get("/v1/rejected", summary="Dead letters, newest first", tags=["Dead letters"])
async def list_rejected(
    request: Request[Any, Any, Any],
    store: NamedDependency[EventStore],
    device_id: Annotated[str | None, QueryParameter(description="Only of this device")] = None,
    reason: Annotated[
        str | None, QueryParameter(enum=list(Reason), description="Only with this reason")
    ] = None,
    from_door: Annotated[  # `door` is the one that posts go through.
        str | None,
        QueryParameter(name="door", enum=list(Door), description="Only from this door"),
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    replayed: Annotated[
        bool | None, QueryParameter(description="Only those that were replayed, or were not")
    ] = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    if device_id is not None and "\0" in device_id:
        raise InvalidRequest("device_id: without NUL.")
    _require_member("reason", reason, Reason)
    _require_member("door", from_door, Door)
    start, end = time_range(from_time, to_time)
    asked = question("rejected", device_id, reason, from_door, start, end, replayed)
    key = read_cursor(cursor, asked, 1)
    before = BIGINT_MAX if key is None else number_of(key[0], BIGINT_MAX)
    rows = await store.rejected(
        before, device_id, reason, from_door, start, end, replayed, limit=limit
    )
    return page(request, rows, limit, asked, lambda row: [row["rejected_id"]])


@get(
    "/v1/rejected/{rejected_id:int}",
    summary="One dead letter with its payload",
    description="`payload` is null where it is no text (not UTF-8, or with NUL); `payload_base64` never"
    f" is. With `Accept: {RAW}` the answer is the payload alone, byte by byte.",
    tags=["Dead letters"],
)
async def one_rejected(
    request: Request[Any, Any, Any],
    store: NamedDependency[EventStore],
    rejected_id: Annotated[int, PathParameter(description="Number of the dead letter")],
) -> Response[bytes]:
    if not 1 <= rejected_id <= BIGINT_MAX:
        raise NotFound(f"There is no dead letter {rejected_id}.")
    facts, payload = await store.rejected_payload(rejected_id)
    if request.accept.best_match([MediaType.JSON, RAW]) == RAW:
        return _raw(rejected_id, payload)
    shown = msgspec.json.decode(facts) | {
        "payload": _text_or_none(payload),
        "payload_base64": b64encode(payload).decode(),
    }
    return Response(
        msgspec.json.encode(shown), media_type=MediaType.JSON, headers={"Vary": "Accept"}
    )


@post(
    "/v1/rejected/replay",
    status_code=200,
    operation_class=ReplayOperation,
    summary="Send dead letters through the pipeline again",
    description="Oldest first; `{}` is every letter that was not replayed yet. The answer counts events."
    " `next` is null at the end, else the `after` of the request that goes on. Harmless when repeated:"
    " what is stored already is a duplicate.",
    tags=["Dead letters"],
)
async def replay(
    request: Request[Any, Any, Any], replays: NamedDependency[ReplayRunner]
) -> dict[str, int | None]:
    require_json(request)
    body = _parse(await request.body())
    start, end = time_range(body.get("from_time"), body.get("to_time"))
    selection = ReplaySelection(
        body.get("ids"), body.get("device_id"), body.get("reason"), body.get("door"), start, end,
        body.get("after", 0),
    )  # fmt: skip
    outcome = await replays.run(selection, body.get("limit", LETTERS_MAX))
    return {
        "letters": outcome.dead_letters,
        "stored": outcome.counts.stored,
        "duplicate": outcome.counts.duplicate,
        "rejected": outcome.counts.rejected.total(),
        "next": outcome.next,
    }


def _parse(body: bytes) -> ReplayBody:
    try:
        return _body_of_replay.validate_json(body)
    except ValidationError as error:
        raise invalid_body(error) from error


def _raw(rejected_id: int, payload: bytes) -> Response[bytes]:
    """Whatever a sender wrote: no browser may take it for a page of ours."""
    return Response(
        payload,
        media_type=RAW,
        headers={
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'attachment; filename="rejected-{rejected_id}"',
            "Vary": "Accept",
        },
    )


def _text_or_none(payload: bytes) -> str | None:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _require_member(name: str, value: str | None, members: type[StrEnum]) -> None:
    if value is not None and value not in set(members):
        raise InvalidRequest(f"{name}: one of {', '.join(members)}.")
