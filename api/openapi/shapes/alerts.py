"""Responses: rules, incidents, silences, back-tests and channels."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api.openapi.shapes.base import STRICT, Count, Number, Time
from schema.alert import AlertState, Severity
from schema.rule import Condition, Notify, Op


@with_config(STRICT)
class RuleResponse(TypedDict):
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
class IncidentResponse(TypedDict):
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
class IncidentStepResponse(TypedDict):
    state: AlertState
    at: Time
    event_id: NotRequired[str]
    value: NotRequired[float]
    by: NotRequired[str]
    note: NotRequired[str]


@with_config(STRICT)
class IncidentHistoryResponse(IncidentResponse):
    history: list[IncidentStepResponse]


@with_config(STRICT)
class BacktestDeviceResponse(TypedDict):
    device_id: str
    incidents: Count
    firing_s: Annotated[float, Field(ge=0)]


@with_config(STRICT)
class BacktestIncidentResponse(TypedDict):
    device_id: str
    opened_at: Time
    opened_by: Annotated[str | None, Field(description="event_id")]
    opened_value: Number
    resolved_at: Annotated[Time | None, Field(description="Null: it still fires at to_time")]
    resolved_by: Annotated[str | None, Field(description="event_id")]


@with_config(STRICT)
class BacktestResponse(TypedDict):
    from_time: Time
    to_time: Time
    time: Annotated[
        Literal["timestamp", "received_at"],
        Field(description="The time of the events that the back-test went by"),
    ]
    events: Annotated[Count, Field(description="How many events with the metric were read")]
    incidents_total: Count
    firing_s: Annotated[float, Field(ge=0)]
    devices: Annotated[
        list[BacktestDeviceResponse], Field(description="Only devices with incidents")
    ]
    incidents: list[BacktestIncidentResponse]
    truncated: Annotated[bool, Field(description="Whether the list leaves incidents out")]


@with_config(STRICT)
class SilenceResponse(TypedDict):
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
class ChannelResponse(TypedDict):
    name: str
    url: Annotated[str, Field(description="The address without its secrets")]
    signed: bool
    silent: bool
    state: Literal["ok", "retrying", "failing"]
    delivered_at: Time | None
    failed_at: Time | None
    failure: str | None
    attempts: Annotated[
        Count, Field(description="Failed attempts at the notification that is being retried")
    ]
    next_attempt_at: Time | None
    given_up: Annotated[Count, Field(description="Notifications that were never delivered")]
    created_at: Time


@with_config(STRICT)
class ChannelTestResponse(TypedDict):
    status: Literal["delivered", "failed"]
    failure: NotRequired[str]
