"""The responses of every route, for the OpenAPI document only: nothing is validated at run time.

The database writes most responses, so no handler returns these types; tests/acceptance/http/test_openapi.py
compares them with real responses.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from api.http.bodies import inlined
from api.openapi.shapes.access import (
    AuditAnswer,
    CredentialsAnswer,
    DeviceCredentialsAnswer,
    KeyAnswer,
    NewKeyAnswer,
    RotatedAnswer,
    SessionAnswer,
)
from api.openapi.shapes.alerts import (
    BacktestAnswer,
    ChannelAnswer,
    ChannelTestAnswer,
    IncidentAnswer,
    IncidentHistoryAnswer,
    RuleAnswer,
    SilenceAnswer,
)
from api.openapi.shapes.dead_letters import (
    RejectedAnswer,
    RejectedPayloadAnswer,
    RejectedSummaryAnswer,
    ReplayAnswer,
)
from api.openapi.shapes.devices import (
    DeviceAnswer,
    FleetAnswer,
    ImportedAnswer,
    LatestAnswer,
    ListedDeviceAnswer,
    PresenceAnswer,
    PresenceChangeAnswer,
    ProfileAnswer,
)
from api.openapi.shapes.events import (
    BatchItemAnswer,
    BucketAnswer,
    ColumnsAnswer,
    EventAnswer,
    GapAnswer,
    PointsAnswer,
    PostedAnswer,
    SummaryAnswer,
)
from api.openapi.shapes.operation import HealthAnswer, InfoAnswer, LiveAnswer

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
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


DEVICE, EVENTS, PROFILE = Answer(DeviceAnswer), Answer(list[EventAnswer]), Answer(ProfileAnswer)
RULE, POSTED, HEALTH = Answer(RuleAnswer), Answer(PostedAnswer), Answer(HealthAnswer)
CHANNEL = Answer(ChannelAnswer)
IMPORTED = Answer(ImportedAnswer)
INCIDENT = Answer(IncidentHistoryAnswer)
LATEST_EXAMPLE = {
    "device_id": "deviceA",
    "metrics": {"temp": {"value": 35, "timestamp": "2025-01-15T10:03:00Z", "event_id": "e003"}},
}
STREAM = Answer(others=("text/event-stream",))

ANSWERS: dict[str, dict[int, Answer]] = {
    "POST /v1/events": {200: POSTED},
    "POST /telemetry": {200: POSTED},
    "POST /v1/events/batch": {200: Answer(list[BatchItemAnswer])},
    "GET /v1/devices/{device_id}/events": {200: EVENTS},
    "GET /v1/devices/{device_id}/gaps": {200: Answer(list[GapAnswer])},
    "GET /v1/search": {200: EVENTS},
    "GET /devices/{device_id}/metrics": {200: Answer(PointsAnswer)},
    "GET /devices/{device_id}/summary": {200: Answer(SummaryAnswer)},
    "GET /v1/metrics/aggregate": {
        200: Answer(list[BucketAnswer] | list[ColumnsAnswer] | ColumnsAnswer)
    },
    "GET /v1/export": {
        200: Answer(others=("text/csv", "application/x-ndjson", "application/vnd.apache.parquet"))
    },
    "GET /v1/devices": {200: Answer(list[ListedDeviceAnswer])},
    "GET /v1/devices/summary": {200: Answer(FleetAnswer)},
    "POST /v1/devices": {201: DEVICE},
    "POST /v1/devices/import": {200: IMPORTED, 201: IMPORTED},
    "GET /v1/devices/{device_id}": {200: DEVICE},
    "PUT /v1/devices/{device_id}": {200: DEVICE, 201: DEVICE},
    "DELETE /v1/devices/{device_id}": {204: Answer()},
    "DELETE /v1/devices/{device_id}/reused_ids": {204: Answer()},
    "GET /v1/latest": {200: Answer(list[LatestAnswer], example=[LATEST_EXAMPLE])},
    "GET /v1/devices/{device_id}/latest": {200: Answer(LatestAnswer, example=LATEST_EXAMPLE)},
    "GET /v1/devices/{device_id}/presence": {200: Answer(PresenceAnswer)},
    "GET /v1/devices/{device_id}/presence/history": {200: Answer(list[PresenceChangeAnswer])},
    "GET /v1/profiles": {200: Answer(list[ProfileAnswer])},
    "GET /v1/profiles/{name}": {200: PROFILE},
    "PUT /v1/profiles/{name}": {200: PROFILE, 201: PROFILE},
    "POST /v1/alerts": {201: RULE},
    "GET /v1/alerts": {200: Answer(list[RuleAnswer])},
    "POST /v1/alerts/backtest": {200: Answer(BacktestAnswer, ("application/x-ndjson",))},
    "GET /v1/alerts/{rule_id}": {200: RULE},
    "PUT /v1/alerts/{rule_id}": {200: RULE},
    "DELETE /v1/alerts/{rule_id}": {204: Answer()},
    "GET /v1/channels": {200: Answer(list[ChannelAnswer])},
    "POST /v1/channels": {201: CHANNEL},
    "GET /v1/channels/{name}": {200: CHANNEL},
    "PUT /v1/channels/{name}": {200: CHANNEL, 201: CHANNEL},
    "DELETE /v1/channels/{name}": {204: Answer()},
    "POST /v1/channels/{name}/test": {200: Answer(ChannelTestAnswer)},
    "GET /v1/incidents": {200: Answer(list[IncidentAnswer])},
    "GET /v1/incidents/{incident_id}": {200: INCIDENT},
    "POST /v1/incidents/{incident_id}/ack": {200: INCIDENT},
    "GET /v1/silences": {200: Answer(list[SilenceAnswer])},
    "POST /v1/silences": {201: Answer(SilenceAnswer)},
    "DELETE /v1/silences/{silence_id}": {204: Answer()},
    "GET /v1/rejected": {200: Answer(list[RejectedAnswer])},
    "GET /v1/rejected/summary": {
        200: Answer(
            RejectedSummaryAnswer,
            example={"total": 3, "replayed": 1, "reasons": {"out_of_range": 2, "bad_time": 1}},
        )
    },
    "GET /v1/rejected/{rejected_id}": {
        200: Answer(RejectedPayloadAnswer, ("application/octet-stream",))
    },
    "POST /v1/rejected/replay": {200: Answer(ReplayAnswer)},
    "GET /v1/keys": {200: Answer(list[KeyAnswer])},
    "POST /v1/keys": {201: Answer(NewKeyAnswer)},
    "DELETE /v1/keys/{name}": {204: Answer()},
    "GET /v1/credentials": {200: Answer(list[DeviceCredentialsAnswer])},
    "POST /v1/devices/{device_id}/credentials": {201: Answer(CredentialsAnswer)},
    "POST /v1/devices/{device_id}/credentials/rotate": {200: Answer(RotatedAnswer)},
    "DELETE /v1/devices/{device_id}/credentials": {204: Answer()},
    "POST /v1/session": {201: Answer(SessionAnswer)},
    "DELETE /v1/session": {204: Answer()},
    "GET /v1/audit": {200: Answer(list[AuditAnswer])},
    "GET /v1/info": {200: Answer(InfoAnswer)},
    "GET /v1/alerts/stream": {200: STREAM},
    "GET /v1/presence/stream": {200: STREAM},
    "GET /v1/live": {200: STREAM},
    "GET /health": {200: HEALTH, 503: HEALTH},
    "GET /live": {200: Answer(LiveAnswer)},
    "GET /metrics": {200: Answer(others=("text/plain",))},
}
