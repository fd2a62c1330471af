"""Dead letters: list them, read them, replay them."""

from base64 import b64encode
from typing import Annotated, Any, NotRequired

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from api.http.bodies import invalid_body, operation_with_body, require_json
from api.http.cursor import fingerprint, number_of, read_cursor
from api.http.pages import json_text, page
from api.http.params import (
    Cursor,
    FromTime,
    PageLimit,
    ToTime,
    optional_name,
    require_no_nul,
    time_range,
)
from api.ingest.replay import ReplayRunner
from api.store.dead_letters import DeadLetterStore, no_dead_letter
from ingestor.replay import ReplaySelection
from schema.event import Door, Reason

BIGINT_MAX = 2**63 - 1
DEAD_LETTERS_MAX = 1000  # Per replay.
RAW = "application/octet-stream"

DeadLetterNumber = Annotated[int, Field(ge=1, le=BIGINT_MAX)]


@with_config(ConfigDict(strict=True, extra="forbid"))
class ReplayBody(TypedDict):
    """Which dead letters to replay. An absent member restricts nothing; null is not accepted."""

    ids: NotRequired[
        Annotated[
            list[DeadLetterNumber],
            Field(
                min_length=1,
                max_length=DEAD_LETTERS_MAX,
                description="Replayed again if they were before",
            ),
        ]
    ]
    device_id: NotRequired[Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]]
    reason: NotRequired[Reason]
    door: NotRequired[Door]
    from_time: NotRequired[
        Annotated[
            str, Field(description="First instant of arrival. RFC 3339; UTC if it has no offset")
        ]
    ]
    to_time: NotRequired[Annotated[str, Field(description="First instant after it")]]
    limit: NotRequired[
        Annotated[
            int, Field(ge=1, le=DEAD_LETTERS_MAX, description=f"{DEAD_LETTERS_MAX} if absent")
        ]
    ]
    after: NotRequired[
        Annotated[int, Field(ge=0, le=BIGINT_MAX, description="`next` of the previous response")]
    ]


_replay_body = TypeAdapter(ReplayBody)


@get("/v1/rejected", summary="Dead letters, newest first", tags=["Dead letters"])
async def list_rejected(
    request: Request[Any, Any, Any],
    dead_letters: NamedDependency[DeadLetterStore],
    device_id: Annotated[str | None, QueryParameter(description="Only of this device")] = None,
    reason: Annotated[
        str | None, QueryParameter(enum=list(Reason), description="Only with this reason")
    ] = None,
    from_door: Annotated[  # `door` is the service that posts go through.
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
    require_no_nul("device_id", device_id)
    optional_name("reason", reason, Reason)
    optional_name("door", from_door, Door)
    start, end = time_range(from_time, to_time)
    query_hash = fingerprint("rejected", device_id, reason, from_door, start, end, replayed)
    key = read_cursor(cursor, query_hash, 1)
    before = BIGINT_MAX if key is None else number_of(key[0], BIGINT_MAX)
    rows = await dead_letters.page(
        before, device_id, reason, from_door, start, end, replayed=replayed, limit=limit
    )
    return page(request, rows, limit, query_hash, lambda row: [row["rejected_id"]])


@get(
    "/v1/rejected/summary",
    summary="How many dead letters there are per reason",
    description="The most frequent reason comes first; one without dead letters is left out.",
    tags=["Dead letters"],
)
async def rejected_summary(
    dead_letters: NamedDependency[DeadLetterStore],
    device_id: Annotated[str | None, QueryParameter(description="Only of this device")] = None,
    from_door: Annotated[
        str | None,
        QueryParameter(name="door", enum=list(Door), description="Only from this door"),
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
) -> Response[bytes]:
    require_no_nul("device_id", device_id)
    optional_name("door", from_door, Door)
    start, end = time_range(from_time, to_time)
    return json_text(await dead_letters.counts(device_id, from_door, start, end))


@get(
    "/v1/rejected/{rejected_id:int}",
    summary="One dead letter with its payload",
    description="`payload` is null if it is not text (not UTF-8, or with NUL); `payload_base64` is never"
    f" null. With `Accept: {RAW}` the response is the payload itself, byte for byte.",
    tags=["Dead letters"],
)
async def one_rejected(
    request: Request[Any, Any, Any],
    dead_letters: NamedDependency[DeadLetterStore],
    rejected_id: Annotated[int, PathParameter(description="Number of the dead letter")],
) -> Response[bytes]:
    if not 1 <= rejected_id <= BIGINT_MAX:
        raise no_dead_letter(rejected_id)
    members, payload = await dead_letters.one(rejected_id)
    if request.accept.best_match([MediaType.JSON, RAW]) == RAW:
        return _raw(rejected_id, payload)
    shown = msgspec.json.decode(members) | {
        "payload": _text_or_none(payload),
        "payload_base64": b64encode(payload).decode(),
    }
    return Response(
        msgspec.json.encode(shown), media_type=MediaType.JSON, headers={"Vary": "Accept"}
    )


@post(
    "/v1/rejected/replay",
    status_code=200,
    operation_class=operation_with_body(_replay_body.json_schema()),
    summary="Send dead letters through the pipeline again",
    description="Oldest first; `{}` selects every dead letter not replayed yet. The response counts events."
    " `next` is null at the end, else the `after` of the next request. Repeating a request is harmless:"
    " events that are already stored are duplicates.",
    tags=["Dead letters"],
)
async def replay(
    request: Request[Any, Any, Any],
    replays: NamedDependency[ReplayRunner],
    dead_letters: NamedDependency[DeadLetterStore],
) -> dict[str, int | None]:
    require_json(request)
    body = _parse(await request.body())
    start, end = time_range(body.get("from_time"), body.get("to_time"))
    selection = ReplaySelection(
        body.get("ids"), body.get("device_id"), body.get("reason"), body.get("door"), start, end,
        body.get("after", 0),
    )  # fmt: skip
    await dead_letters.note_replay({name: str(value) for name, value in body.items()})
    outcome = await replays.run(selection, body.get("limit", DEAD_LETTERS_MAX))
    return {
        "letters": outcome.dead_letters,
        "stored": outcome.counts.stored,
        "duplicate": outcome.counts.duplicate,
        "rejected": outcome.counts.rejected.total(),
        "next": outcome.next,
    }


def _parse(body: bytes) -> ReplayBody:
    try:
        return _replay_body.validate_json(body)
    except ValidationError as error:
        raise invalid_body(error) from error


def _raw(rejected_id: int, payload: bytes) -> Response[bytes]:
    """Any sender wrote the payload, so no browser may render it as a page of this site."""
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
