"""Exports: every stored event as a file, however many there are."""

from contextlib import ExitStack
from typing import Annotated, Any

import structlog
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.params import QueryParameter
from litestar.response import Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.export.formats import encoding
from api.export.store import EXPORTS_MAX, Exports, ExportSelection, Format
from api.http.params import DEVICES_MAX, FromTime, ToTime, time_range
from api.http.slow_clients import cut_off_idle_readers
from api.store.tags import TAGS_MAX, tag_texts, wanted
from runtime.errors import InvalidRequest, innermost

METRICS_MAX = 64
SEND_S_MAX = 60.0  # A client that takes nothing for that long is cut off.
HELD = "held_until_sent"

log = structlog.get_logger()


def held_until_sent(app: ASGIApp) -> ASGIApp:
    """Middleware: what the handler holds ends with the answer, also if nobody ever read it.

    A fault after the headers ends the connection without the last chunk (RFC 9112 section 8), so that no
    client takes a part for the whole.
    """

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with ExitStack() as stack:
            if scope["type"] == ScopeType.HTTP:
                scope["state"][HELD] = stack
            try:
                await app(scope, receive, send_and_note)
            except Exception as error:
                if not started:
                    raise
                log.warning("An export broke off.", error=repr(_first(error)))

    return middleware


@get(
    "/v1/export",
    summary="Every event as a file",
    description="Streamed, however much it is: month by month with device_id, else day by day (UTC), in it"
    " device by device, oldest first. CSV and Parquet have a row per value, NDJSON an event per line."
    f" At most {EXPORTS_MAX} at a time, beyond it 503.",
    middleware=[held_until_sent, cut_off_idle_readers(SEND_S_MAX)],
    tags=["Events"],
)
async def export(
    request: Request[Any, Any, Any],
    exports: NamedDependency[Exports],
    form: Annotated[
        str, QueryParameter(name="format", enum=list(Format), description="Of the file")
    ],
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="Repeat it; absent: the fleet"),
    ] = None,
    tag: Annotated[
        list[str] | None, QueryParameter(max_items=TAGS_MAX, description="Repeat it for AND")
    ] = None,
    metric: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=METRICS_MAX,
            description="Repeat it; only these metrics, and only events that have one of them",
        ),
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
) -> Stream:
    chosen = _format(form)
    selection = ExportSelection(
        _texts("device_id", device_id), wanted(tag_texts("tag", tag)), _texts("metric", metric),
        *time_range(from_time, to_time),
    )  # fmt: skip
    held: ExitStack = request.scope["state"][HELD]
    held.enter_context(exports.place())
    dressed = await encoding(chosen)
    slices = await exports.begin(selection, chosen)
    return Stream(
        dressed.dress(slices),
        media_type=dressed.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="voltwire-export.{chosen}"',
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _format(text: str) -> Format:
    try:
        return Format(text)
    except ValueError as error:
        raise InvalidRequest(f"format: one of {', '.join(Format)}.") from error


def _texts(name: str, given: list[str] | None) -> list[str] | None:
    for text in given or ():
        if not 1 <= len(text) <= 128 or "\0" in text:  # noqa: PLR2004  # As in schema/event.py.
            raise InvalidRequest(f"{name}: 1 to 128 characters without NUL.")
    return None if given is None else sorted(set(given))


def _first(error: BaseException) -> BaseException:
    """The original error, without the groups and causes around it."""
    error = innermost(error)
    while error.__cause__ is not None:
        error = innermost(error.__cause__)
    return error
