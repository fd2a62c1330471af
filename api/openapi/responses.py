"""The responses of every route, for the OpenAPI document only: nothing is validated at run time.

The database writes most responses, so no handler returns these types; tests/acceptance/http/test_openapi.py
compares them with real responses.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from api.http.bodies import inlined
from api.openapi.shapes.access import (
    AuditResponse,
    CredentialsResponse,
    DeviceCredentialsResponse,
    KeyResponse,
    NewKeyResponse,
    RotatedResponse,
    SessionResponse,
)
from api.openapi.shapes.alerts import (
    BacktestResponse,
    ChannelResponse,
    ChannelTestResponse,
    IncidentHistoryResponse,
    IncidentResponse,
    RuleResponse,
    SilenceResponse,
)
from api.openapi.shapes.dead_letters import (
    RejectedPayloadResponse,
    RejectedResponse,
    RejectedSummaryResponse,
    ReplayResponse,
)
from api.openapi.shapes.devices import (
    DeviceResponse,
    FleetResponse,
    ImportedResponse,
    LatestResponse,
    ListedDeviceResponse,
    PresenceChangeResponse,
    PresenceResponse,
    ProfileResponse,
)
from api.openapi.shapes.events import (
    BatchItemResponse,
    BucketResponse,
    ColumnsResponse,
    EventResponse,
    GapResponse,
    PointsResponse,
    PostedResponse,
    SummaryResponse,
)
from api.openapi.shapes.operation import HealthResponse, InfoResponse, LiveResponse

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Documented:
    """`shape` as JSON, and the other media types of the body; neither means no body."""

    shape: Any = None
    others: tuple[str, ...] = ()
    example: Any = None

    def content(self) -> dict[str, Any]:
        example = {} if self.example is None else {"example": self.example}
        as_json = {} if self.shape is None else {JSON: {"schema": _schema(self.shape)} | example}
        return as_json | {media_type: {"schema": {"type": "string"}} for media_type in self.others}


def _schema(shape: Any) -> Any:
    return inlined(TypeAdapter(shape).json_schema(mode="serialization"))


DEVICE, EVENTS, PROFILE = (
    Documented(DeviceResponse),
    Documented(list[EventResponse]),
    Documented(ProfileResponse),
)
RULE, POSTED, HEALTH = (
    Documented(RuleResponse),
    Documented(PostedResponse),
    Documented(HealthResponse),
)
CHANNEL = Documented(ChannelResponse)
IMPORTED = Documented(ImportedResponse)
INCIDENT = Documented(IncidentHistoryResponse)
LATEST_EXAMPLE = {
    "device_id": "deviceA",
    "metrics": {"temp": {"value": 35, "timestamp": "2025-01-15T10:03:00Z", "event_id": "e003"}},
}
STREAM = Documented(others=("text/event-stream",))

RESPONSES: dict[str, dict[int, Documented]] = {
    "POST /v1/events": {200: POSTED},
    "POST /telemetry": {200: POSTED},
    "POST /v1/events/batch": {200: Documented(list[BatchItemResponse])},
    "GET /v1/devices/{device_id}/events": {200: EVENTS},
    "GET /v1/devices/{device_id}/gaps": {200: Documented(list[GapResponse])},
    "GET /v1/search": {200: EVENTS},
    "GET /devices/{device_id}/metrics": {200: Documented(PointsResponse)},
    "GET /devices/{device_id}/summary": {200: Documented(SummaryResponse)},
    "GET /v1/metrics/aggregate": {
        200: Documented(list[BucketResponse] | list[ColumnsResponse] | ColumnsResponse)
    },
    "GET /v1/export": {
        200: Documented(
            others=("text/csv", "application/x-ndjson", "application/vnd.apache.parquet")
        )
    },
    "GET /v1/devices": {200: Documented(list[ListedDeviceResponse])},
    "GET /v1/devices/summary": {200: Documented(FleetResponse)},
    "POST /v1/devices": {201: DEVICE},
    "POST /v1/devices/import": {200: IMPORTED, 201: IMPORTED},
    "GET /v1/devices/{device_id}": {200: DEVICE},
    "PUT /v1/devices/{device_id}": {200: DEVICE, 201: DEVICE},
    "DELETE /v1/devices/{device_id}": {204: Documented()},
    "DELETE /v1/devices/{device_id}/reused_ids": {204: Documented()},
    "GET /v1/latest": {200: Documented(list[LatestResponse], example=[LATEST_EXAMPLE])},
    "GET /v1/devices/{device_id}/latest": {200: Documented(LatestResponse, example=LATEST_EXAMPLE)},
    "GET /v1/devices/{device_id}/presence": {200: Documented(PresenceResponse)},
    "GET /v1/devices/{device_id}/presence/history": {200: Documented(list[PresenceChangeResponse])},
    "GET /v1/profiles": {200: Documented(list[ProfileResponse])},
    "GET /v1/profiles/{name}": {200: PROFILE},
    "PUT /v1/profiles/{name}": {200: PROFILE, 201: PROFILE},
    "POST /v1/alerts": {201: RULE},
    "GET /v1/alerts": {200: Documented(list[RuleResponse])},
    "POST /v1/alerts/backtest": {200: Documented(BacktestResponse, ("application/x-ndjson",))},
    "GET /v1/alerts/{rule_id}": {200: RULE},
    "PUT /v1/alerts/{rule_id}": {200: RULE},
    "DELETE /v1/alerts/{rule_id}": {204: Documented()},
    "GET /v1/channels": {200: Documented(list[ChannelResponse])},
    "POST /v1/channels": {201: CHANNEL},
    "GET /v1/channels/{name}": {200: CHANNEL},
    "PUT /v1/channels/{name}": {200: CHANNEL, 201: CHANNEL},
    "DELETE /v1/channels/{name}": {204: Documented()},
    "POST /v1/channels/{name}/test": {200: Documented(ChannelTestResponse)},
    "GET /v1/incidents": {200: Documented(list[IncidentResponse])},
    "GET /v1/incidents/{incident_id}": {200: INCIDENT},
    "POST /v1/incidents/{incident_id}/ack": {200: INCIDENT},
    "GET /v1/silences": {200: Documented(list[SilenceResponse])},
    "POST /v1/silences": {201: Documented(SilenceResponse)},
    "GET /v1/silences/{silence_id}": {200: Documented(SilenceResponse)},
    "DELETE /v1/silences/{silence_id}": {204: Documented()},
    "GET /v1/rejected": {200: Documented(list[RejectedResponse])},
    "GET /v1/rejected/summary": {
        200: Documented(
            RejectedSummaryResponse,
            example={"total": 3, "replayed": 1, "reasons": {"out_of_range": 2, "bad_time": 1}},
        )
    },
    "GET /v1/rejected/{rejected_id}": {
        200: Documented(RejectedPayloadResponse, ("application/octet-stream",))
    },
    "POST /v1/rejected/replay": {200: Documented(ReplayResponse)},
    "GET /v1/keys": {200: Documented(list[KeyResponse])},
    "POST /v1/keys": {201: Documented(NewKeyResponse)},
    "DELETE /v1/keys/{name}": {204: Documented()},
    "GET /v1/credentials": {200: Documented(list[DeviceCredentialsResponse])},
    "POST /v1/devices/{device_id}/credentials": {201: Documented(CredentialsResponse)},
    "POST /v1/devices/{device_id}/credentials/rotate": {200: Documented(RotatedResponse)},
    "DELETE /v1/devices/{device_id}/credentials": {204: Documented()},
    "POST /v1/session": {201: Documented(SessionResponse)},
    "DELETE /v1/session": {204: Documented()},
    "GET /v1/audit": {200: Documented(list[AuditResponse])},
    "GET /v1/info": {200: Documented(InfoResponse)},
    "GET /v1/alerts/stream": {200: STREAM},
    "GET /v1/presence/stream": {200: STREAM},
    "GET /v1/live": {200: STREAM},
    "GET /health": {200: HEALTH, 503: HEALTH},
    "GET /live": {200: Documented(LiveResponse)},
    "GET /metrics": {200: Documented(others=("text/plain",))},
}
