"""The responses of every route, for the OpenAPI document only: nothing is validated at run time.

The database writes most responses, so no handler returns these types; tests/acceptance/http/test_openapi.py
compares them with real responses.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from api.http.bodies import inlined
from schema.access.credentials import Scope
from schema.alert import AlertState, Severity
from schema.event import Door, DuplicateReason, Reason, Status
from schema.presence import IntervalSource, PresenceState
from schema.rule import Condition, Notify, Op

JSON = "application/json"
STRICT = ConfigDict(extra="forbid")

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Number = float | None  # Null if beyond a double.


@with_config(STRICT)
class EventAnswer(TypedDict):
    event_id: str
    device_id: str
    timestamp: Time
    metrics: dict[str, float]
    tags: list[str]
    seq: int | None
    received_at: Time


@with_config(STRICT)
class PostedAnswer(TypedDict):
    status: Literal["ok", "duplicate"]
    event_id: NotRequired[Annotated[str, Field(description="Only if the server assigned it")]]
    reason: NotRequired[
        Annotated[DuplicateReason, Field(description="Only of a duplicate that is no resend")]
    ]


@with_config(STRICT)
class BatchItemAnswer(TypedDict):
    event_id: str | None
    status: Status
    reason: NotRequired[Reason | DuplicateReason]


@with_config(STRICT)
class PointAnswer(TypedDict):
    timestamp: Time
    metrics: dict[str, float]


@with_config(STRICT)
class PointsAnswer(TypedDict):
    device_id: str
    truncated: bool
    points: list[PointAnswer]


@with_config(STRICT)
class DaySummaryAnswer(TypedDict):
    count: Count
    min: Number
    max: Number
    avg: Number


@with_config(STRICT)
class CompletenessAnswer(TypedDict):
    expected: Count
    received: Count
    missing: Count
    percent: Annotated[float, Field(ge=0, le=100)]


@with_config(STRICT)
class GapAnswer(TypedDict):
    from_time: Annotated[Time, Field(description="Of the event before the gap")]
    to_time: Annotated[Time, Field(description="Of the event after it")]
    after_seq: Count
    before_seq: Count
    missing: Count


@with_config(STRICT)
class SummaryAnswer(TypedDict):
    device_id: str
    date: Annotated[str, Field(json_schema_extra={"format": "date"})]
    tz: str
    metrics: dict[str, DaySummaryAnswer]
    completeness: NotRequired[CompletenessAnswer]


@with_config(STRICT)
class BucketAnswer(TypedDict):
    bucket: Time
    metric: NotRequired[str]
    device_id: NotRequired[str]
    tag: NotRequired[str]
    device_tag: NotRequired[str]
    count: NotRequired[Count]
    sum: NotRequired[Number]
    avg: NotRequired[Number]
    min: NotRequired[Number]
    max: NotRequired[Number]
    first: NotRequired[Number]
    last: NotRequired[Number]
    stddev: NotRequired[Number]
    p50: NotRequired[Number]
    p95: NotRequired[Number]
    p99: NotRequired[Number]


@with_config(STRICT)
class ColumnsAnswer(TypedDict):
    metric: NotRequired[str]
    device_id: NotRequired[str]
    tag: NotRequired[str]
    device_tag: NotRequired[str]
    bucket: list[Time]
    count: NotRequired[list[Count]]
    sum: NotRequired[list[Number]]
    avg: NotRequired[list[Number]]
    min: NotRequired[list[Number]]
    max: NotRequired[list[Number]]
    first: NotRequired[list[Number]]
    last: NotRequired[list[Number]]
    stddev: NotRequired[list[Number]]
    p50: NotRequired[list[Number]]
    p95: NotRequired[list[Number]]
    p99: NotRequired[list[Number]]


@with_config(STRICT)
class PresenceAnswer(TypedDict):
    device_id: str
    state: PresenceState
    since: Time
    reason: str
    last_seen: Time | None
    expected_interval_s: Annotated[float | None, Field(description="Of the present silence")]
    source: Annotated[IntervalSource, Field(description="Where expected_interval_s comes from")]
    flapping: Annotated[bool, Field(description="More than 6 changes in an hour")]


@with_config(STRICT)
class PresenceChangeAnswer(TypedDict):
    id: Annotated[int, Field(description="As in the stream of changes")]
    device_id: str
    state: PresenceState
    since: Time
    reason: str
    last_seen: Time | None


@with_config(STRICT)
class FleetAnswer(TypedDict):
    total: Count
    states: dict[PresenceState, Count]
    flapping: Count
    open_incidents: Count


@with_config(STRICT)
class LatestValueAnswer(TypedDict):
    value: Number
    timestamp: Time
    event_id: str


@with_config(STRICT)
class DeviceAnswer(PresenceAnswer):
    name: str | None
    profile: str
    tags: list[str]
    interval_s: float | None
    registered: bool
    created_at: Time
    open_incidents: Count
    reused_ids: Annotated[
        int, Field(ge=0, description="Events whose event_id was that of an event of another time")
    ]
    reused_ids_at: Annotated[Time | None, Field(description="When the last of them was received")]
    completeness_percent: Annotated[
        float | None,
        Field(
            ge=0, le=100, description="Of the last 24 hours; null without events that have a seq"
        ),
    ]


@with_config(STRICT)
class ListedDeviceAnswer(DeviceAnswer):
    latest: NotRequired[
        Annotated[dict[str, LatestValueAnswer], Field(description="By metric, if asked for")]
    ]


@with_config(STRICT)
class LatestAnswer(TypedDict):
    device_id: str
    metrics: dict[str, LatestValueAnswer]


@with_config(STRICT)
class ProfileMetricAnswer(TypedDict):
    unit: NotRequired[str]
    min: NotRequired[float]
    max: NotRequired[float]


@with_config(STRICT)
class ProfileAnswer(TypedDict):
    name: str
    metrics: dict[str, ProfileMetricAnswer]
    interval_s: float | None
    receipts: bool


@with_config(STRICT)
class RuleAnswer(TypedDict):
    id: str
    condition: Condition
    device_id: str | None
    tag: str | None
    metric: str
    op: Op | None
    threshold: float | None
    for_s: float
    max_gap_s: float | None
    clear_threshold: float | None
    cooldown_s: float
    name: str | None
    severity: Severity
    notify: Notify
    channels: list[str]
    enabled: bool
    created_at: Time


@with_config(STRICT)
class IncidentAnswer(TypedDict):
    id: int
    device_id: str
    rule_id: str
    rule_name: str | None
    severity: Severity
    state: AlertState
    metric: str | None
    op: Op | None
    threshold: Number
    opened_at: Time
    opened_by: Annotated[str | None, Field(description="event_id")]
    opened_value: Number
    recorded_at: Annotated[
        Time, Field(description="When it was found; later than opened_at for late data")
    ]
    acknowledged_at: Time | None
    acknowledged_by: str | None
    acknowledged_note: str | None
    resolved_at: Time | None
    resolved_by: Annotated[str | None, Field(description="event_id")]
    muted: bool


@with_config(STRICT)
class IncidentStepAnswer(TypedDict):
    state: AlertState
    at: Time
    event_id: NotRequired[str]
    value: NotRequired[float]
    by: NotRequired[str]
    note: NotRequired[str]


@with_config(STRICT)
class IncidentHistoryAnswer(IncidentAnswer):
    history: list[IncidentStepAnswer]


@with_config(STRICT)
class BacktestDeviceAnswer(TypedDict):
    device_id: str
    incidents: Count
    firing_s: Annotated[float, Field(ge=0)]


@with_config(STRICT)
class BacktestIncidentAnswer(TypedDict):
    device_id: str
    opened_at: Time
    opened_by: Annotated[str | None, Field(description="event_id")]
    opened_value: Number
    resolved_at: Annotated[Time | None, Field(description="Null: it still fires at to_time")]
    resolved_by: Annotated[str | None, Field(description="event_id")]


@with_config(STRICT)
class BacktestAnswer(TypedDict):
    from_time: Time
    to_time: Time
    time: Annotated[
        Literal["timestamp", "received_at"], Field(description="Of the events, by which it went")
    ]
    events: Annotated[Count, Field(description="How many events with the metric were read")]
    incidents_total: Count
    firing_s: Annotated[float, Field(ge=0)]
    devices: Annotated[list[BacktestDeviceAnswer], Field(description="Those with incidents")]
    incidents: list[BacktestIncidentAnswer]
    truncated: Annotated[bool, Field(description="Not all incidents are listed")]


@with_config(STRICT)
class SilenceAnswer(TypedDict):
    id: int
    device_id: str | None
    tag: str | None
    rule_id: str | None
    from_time: Time
    to_time: Time
    reason: str | None
    created_at: Time
    active: bool


@with_config(STRICT)
class RejectedAnswer(TypedDict):
    id: int
    received_at: Time
    door: Door
    device_id: str | None
    reason: Reason
    detail: str
    item: int | None
    size_bytes: Count
    replayed_at: Time | None


@with_config(STRICT)
class RejectedSummaryAnswer(TypedDict):
    total: Count
    replayed: Count
    reasons: dict[Reason, Count]


@with_config(STRICT)
class RejectedPayloadAnswer(RejectedAnswer):
    payload: str | None
    payload_base64: str


@with_config(STRICT)
class ReplayAnswer(TypedDict):
    letters: Count
    stored: Count
    duplicate: Count
    rejected: Count
    next: int | None


@with_config(STRICT)
class KeyAnswer(TypedDict):
    name: str
    scopes: list[Scope]
    created_at: Time
    last_used_at: Annotated[Time | None, Field(description="To the minute")]


@with_config(STRICT)
class NewKeyAnswer(TypedDict):
    name: str
    scopes: list[Scope]
    secret: Annotated[str, Field(description="Shown here and never again")]


@with_config(STRICT)
class CredentialsAnswer(TypedDict):
    device_id: str
    login: Annotated[str, Field(description="The user name at the broker")]
    secret: NotRequired[Annotated[str, Field(description="Shown here and never again")]]


@with_config(STRICT)
class RotatedAnswer(CredentialsAnswer):
    overlap_s: float


@with_config(STRICT)
class SessionAnswer(TypedDict):
    key: str
    scopes: list[Scope]
    expires_in_s: int


@with_config(STRICT)
class AuditAnswer(TypedDict):
    id: int
    at: Time
    actor: Annotated[str, Field(description="key:NAME, device:ID, command, or anyone")]
    address: str | None
    action: str
    target: str | None
    details: dict[str, Any]


@with_config(STRICT)
class InfoAnswer(TypedDict):
    """Strangers see `authentication` alone."""

    authentication: bool
    version: NotRequired[str]
    http_url: NotRequired[str]
    mqtt_url: NotRequired[str]
    retention_days: NotRequired[Count]
    rejected_days: NotRequired[Count]
    server_time: NotRequired[Time]


@with_config(STRICT)
class CheckAnswer(TypedDict):
    status: Literal["ok", "failing"]
    detail: str


@with_config(STRICT)
class HealthAnswer(TypedDict):
    """Strangers see `status` alone."""

    status: Literal["ok", "failing"]
    version: NotRequired[str]
    checks: NotRequired[dict[str, CheckAnswer]]


@with_config(STRICT)
class ChannelAnswer(TypedDict):
    name: str
    url: Annotated[str, Field(description="Without its secrets")]
    signed: bool
    silent: bool
    state: Literal["ok", "retrying", "failing"]
    delivered_at: Time | None
    failed_at: Time | None
    failure: str | None
    attempts: Annotated[Count, Field(description="Of the notification that is being retried")]
    next_attempt_at: Time | None
    given_up: Annotated[Count, Field(description="Notifications that were never delivered")]
    created_at: Time


@with_config(STRICT)
class ChannelTestAnswer(TypedDict):
    status: Literal["delivered", "failed"]
    failure: NotRequired[str]


@with_config(STRICT)
class LiveAnswer(TypedDict):
    status: Literal["ok"]


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
