"""Exports: any number of stored events as a file."""

from contextlib import ExitStack
from typing import Annotated, Any

import structlog
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.params import QueryParameter
from litestar.response import Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.export.formats import encoding_of
from api.export.store import EXPORTS_MAX, Exports, ExportSelection, Format
from api.http.params import (
    DEVICES_MAX,
    TAGS_MAX,
    FromTime,
    ToTime,
    known_name,
    short_texts,
    time_range,
)
from api.http.slow_clients import cut_off_idle_readers
from api.store.tags import tags_query
from runtime.errors import innermost

METRICS_MAX = 64
SEND_S_MAX = 60.0  # A client that reads nothing for that long is disconnected.
RESOURCES = "resources_until_sent"

log = structlog.get_logger()


def resources_until_sent(app: ASGIApp) -> ASGIApp:
    """Middleware: the resources that the handler holds are released when the response ends, even unread.

    A failure after the headers closes the connection without the last chunk (RFC 9112 section 8), so that
    no client takes a part for the whole.
    """

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_record(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with ExitStack() as stack:
            if scope["type"] == ScopeType.HTTP:
                scope["state"][RESOURCES] = stack
            try:
                await app(scope, receive, send_and_record)
            except Exception as error:
                if not started:
                    raise
                log.warning("An export was aborted.", error=repr(_root_cause(error)))

    return middleware


@get(
    "/v1/export",
    summary="Every event as a file",
    description="Streamed, whatever its size: month by month with device_id, else day by day (UTC), within it"
    " device by device, oldest first. CSV and Parquet have a row per value, NDJSON an event per line."
    f" At most {EXPORTS_MAX} run at a time; further ones answer 503.",
    middleware=[resources_until_sent, cut_off_idle_readers(SEND_S_MAX)],
    tags=["Events"],
)
async def export(
    request: Request[Any, Any, Any],
    exports: NamedDependency[Exports],
    format_name: Annotated[
        str, QueryParameter(name="format", enum=list(Format), description="Format of the file")
    ],
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="May be repeated; absent: the fleet"),
    ] = None,
    tag: Annotated[
        list[str] | None, QueryParameter(max_items=TAGS_MAX, description="Repeat it for AND")
    ] = None,
    metric: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=METRICS_MAX,
            description="May be repeated: only these metrics, and only events with one of them",
        ),
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
) -> Stream:
    file_format = known_name("format", format_name, Format)
    selection = ExportSelection(
        _sorted_texts("device_id", device_id), tags_query(short_texts("tag", tag)),
        _sorted_texts("metric", metric), *time_range(from_time, to_time),
    )  # fmt: skip
    resources: ExitStack = request.scope["state"][RESOURCES]
    resources.enter_context(exports.export_slot())
    encoding = await encoding_of(file_format)
    slices = await exports.begin(selection, file_format)
    return Stream(
        encoding.encode(slices),
        media_type=encoding.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="voltwire-export.{file_format}"',
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _sorted_texts(name: str, given: list[str] | None) -> list[str] | None:
    return None if given is None else sorted(set(short_texts(name, given)))


def _root_cause(error: BaseException) -> BaseException:
    """The original error, without the groups and causes around it."""
    error = innermost(error)
    while error.__cause__ is not None:
        error = innermost(error.__cause__)
    return error
