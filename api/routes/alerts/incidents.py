"""Incidents and their acknowledgement; silences."""

from typing import Annotated, Any

from litestar import MediaType, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from api.alerts.incidents import (
    INCIDENT_ID_MAX,
    Acknowledgement,
    IncidentFilter,
    IncidentSelection,
    IncidentStore,
)
from api.alerts.silences import SILENCE_ID_MAX, SilenceBody, SilenceStore
from api.http.bodies import operation_with_body, read_body
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
from schema.alert import Severity

IncidentIdPath = Annotated[int, PathParameter(description="Incident number")]
SilenceIdPath = Annotated[int, PathParameter(description="Silence number")]


@get(
    "/v1/incidents",
    summary="Incidents, newest first",
    description="`from_time` and `to_time` are about the time of opening.",
    tags=["Alerts"],
)
async def list_incidents(
    request: Request[Any, Any, Any],
    incidents: NamedDependency[IncidentStore],
    in_state: Annotated[
        str | None,
        QueryParameter(
            name="state", enum=list(IncidentFilter), description="open: firing or acknowledged"
        ),
    ] = None,
    device_id: Annotated[str | None, QueryParameter(description="Only of this device")] = None,
    rule_id: Annotated[
        str | None,
        QueryParameter(description="Only of this rule; silent: devices that fell silent"),
    ] = None,
    severity: Annotated[
        str | None, QueryParameter(enum=list(Severity), description="Only of this severity")
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    require_no_nul("device_id", device_id)
    require_no_nul("rule_id", rule_id)
    selection = IncidentSelection(
        optional_name("state", in_state, IncidentFilter),
        device_id,
        rule_id,
        optional_name("severity", severity, Severity),
        *time_range(from_time, to_time),
    )
    query_hash = fingerprint("incidents", selection)
    key = read_cursor(cursor, query_hash, 1)
    before = INCIDENT_ID_MAX if key is None else number_of(key[0], INCIDENT_ID_MAX)
    rows = await incidents.page(before, selection, limit)
    return page(request, rows, limit, query_hash, lambda row: [row["incident_id"]])


@get("/v1/incidents/{incident_id:int}", summary="One incident with its history", tags=["Alerts"])
async def one_incident(
    incidents: NamedDependency[IncidentStore], incident_id: IncidentIdPath
) -> Response[bytes]:
    return Response(await incidents.one(incident_id), media_type=MediaType.JSON)


@post(
    "/v1/incidents/{incident_id:int}/ack",
    operation_class=operation_with_body(Acknowledgement.model_json_schema(), required=False),
    summary="Acknowledge an open incident",
    description="The first acknowledgement counts; a repeat answers with the incident as it is.",
    status_code=200,
    tags=["Alerts"],
)
async def acknowledge(
    request: Request[Any, Any, Any],
    incidents: NamedDependency[IncidentStore],
    incident_id: IncidentIdPath,
) -> Response[bytes]:
    empty = not await request.body()
    what = Acknowledgement() if empty else await read_body(request, Acknowledgement)
    body = await incidents.acknowledge(incident_id, what)
    return Response(body, media_type=MediaType.JSON, status_code=200)


@get("/v1/silences", summary="Silences, newest first", tags=["Alerts"])
async def list_silences(
    request: Request[Any, Any, Any],
    silences: NamedDependency[SilenceStore],
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    query_hash = fingerprint("silences")
    key = read_cursor(cursor, query_hash, 1)
    before = SILENCE_ID_MAX if key is None else number_of(key[0], SILENCE_ID_MAX)
    rows = await silences.page(before, limit)
    return page(request, rows, limit, query_hash, lambda row: [row["silence_id"]])


@post(
    "/v1/silences",
    operation_class=operation_with_body(SilenceBody.model_json_schema()),
    summary="Keep alerts from channels for a while",
    description="It concerns what meets all of `device_id`, `tag` and `rule_id` that are given, by time of"
    " receipt. Incidents and streams go on, with `muted` true.",
    tags=["Alerts"],
)
async def add_silence(
    request: Request[Any, Any, Any], silences: NamedDependency[SilenceStore]
) -> Response[bytes]:
    return json_text(await silences.add(await read_body(request, SilenceBody)), status=201)


@get("/v1/silences/{silence_id:int}", summary="One silence", tags=["Alerts"])
async def get_silence(
    silences: NamedDependency[SilenceStore], silence_id: SilenceIdPath
) -> Response[bytes]:
    return json_text(await silences.get(silence_id))


@delete("/v1/silences/{silence_id:int}", summary="End a silence", tags=["Alerts"])
async def delete_silence(
    silences: NamedDependency[SilenceStore], silence_id: SilenceIdPath
) -> None:
    await silences.delete(silence_id)
