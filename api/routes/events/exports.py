"""Exports: any number of stored events as a file."""

from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Stream

from api.export.formats import encoding_of
from api.export.store import EXPORTS_MAX, ExportSelection, ExportStore, FileFormat
from api.http.held_resources import held_resources, resources_until_sent
from api.http.params import (
    DEVICES_MAX,
    TAGS_MAX,
    FromTime,
    ToTime,
    known_name,
    short_texts,
    time_range,
)
from api.middleware.head import is_head
from api.middleware.slow_clients import disconnect_slow_clients
from api.store.tags import tags_query

METRICS_MAX = 64
SEND_S_MAX = 60.0  # A client that reads nothing for that long is disconnected.


@get(
    "/v1/export",
    summary="Every event as a file",
    description="Streamed, whatever its size: month by month with device_id, else day by day (UTC), within it"
    " device by device, oldest first. CSV and Parquet have a row per value, NDJSON an event per line."
    f" At most {EXPORTS_MAX} run at a time; further ones answer 503.",
    middleware=[resources_until_sent, disconnect_slow_clients(SEND_S_MAX)],
    tags=["Events"],
)
async def export(
    request: Request[Any, Any, Any],
    exports: NamedDependency[ExportStore],
    format_name: Annotated[
        str, QueryParameter(name="format", enum=list(FileFormat), description="Format of the file")
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
    file_format = known_name("format", format_name, FileFormat)
    selection = ExportSelection(
        _sorted_texts("device_id", device_id), tags_query(short_texts("tag", tag)),
        _sorted_texts("metric", metric), *time_range(from_time, to_time),
    )  # fmt: skip
    headers = {
        "Content-Disposition": f'attachment; filename="voltwire-export.{file_format}"',
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Content-Type-Options": "nosniff",
    }
    encoding = await encoding_of(file_format)
    if is_head(request.scope):
        return Stream((), media_type=encoding.media_type, headers=headers)
    held_resources(request.scope).enter_context(exports.export_slot())
    slices = await exports.begin(selection, file_format)
    return Stream(encoding.encode(slices), media_type=encoding.media_type, headers=headers)


def _sorted_texts(name: str, given: list[str] | None) -> list[str] | None:
    return None if given is None else sorted(set(short_texts(name, given)))
