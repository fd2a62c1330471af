"""The messages of the MQTT side, with examples. Events are those of schema/event.py, as over HTTP."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from api.http.bodies import inlined
from api.openapi.shapes.base import STRICT, Time
from api.openapi.shapes.devices import PresenceChangeResponse
from api.openapi.shapes.events import BatchItemResponse
from ingestor.decode.presence import MAX_SLEEP_S, SESSION_CHARS_MAX
from schema.alert import AlertState, Severity
from schema.event import MAX_ITEMS, EventBody
from schema.rule import Op

JSON, TEXT = "application/json", "text/plain"


@with_config(ConfigDict(extra="ignore"))
class StatusBody(TypedDict):
    """The JSON form of a status; the bare word of `state` does, too."""

    state: Literal["online", "asleep", "offline"]
    receipts: NotRequired[
        Annotated[bool, Field(description="With `online`: whether receipts are sent from now on")]
    ]
    wake_in_s: NotRequired[
        Annotated[
            float,
            Field(gt=0, le=MAX_SLEEP_S, description="With `asleep`: how long silence may last"),
        ]
    ]
    session: NotRequired[
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=SESSION_CHARS_MAX,
                description="New for each connection: the will of another session is ignored",
            ),
        ]
    ]


@with_config(STRICT)
class AlertMessage(TypedDict):
    device_id: str
    metrics: Annotated[dict[str, float], Field(description="All metrics of the event")]
    time: Annotated[str, Field(description="UTC, with a space and without an offset")]
    timestamp: Time
    id: Annotated[int, Field(description="Grows with each notification; a repeat has the same")]
    incident_id: int | None
    rule_id: Annotated[str, Field(description="`silent`: the device is offline")]
    metric: str | None
    value: float | None
    op: Op | None
    threshold: float | None
    severity: Severity
    state: AlertState
    late: Annotated[
        bool, Field(description="Whether the event is older than the newest evaluated one")
    ]
    event_id: str | None
    rule_name: str | None
    muted: Annotated[bool, Field(description="Whether a silence keeps it from channels")]


Words = Literal["online", "asleep", "offline"]
Telemetry = EventBody | Annotated[list[EventBody], Field(min_length=1, max_length=MAX_ITEMS)]


@dataclass(frozen=True, slots=True)
class MessageDescription:
    """One kind of message. Without a `shape` the payload is not read."""

    title: str
    shape: Any
    examples: tuple[Any, ...]
    content_type: str = JSON

    def document(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "title": self.title}
        found["contentType"] = self.content_type
        found["payload"] = {} if self.shape is None else schema_of(self.shape)
        if self.examples:
            found["examples"] = [{"payload": example} for example in self.examples]
        return found


def schema_of(shape: Any) -> dict[str, Any]:
    return inlined(TypeAdapter(shape).json_schema())


EVENT = {
    "event_id": "m001",
    "timestamp": "2026-02-01T14:23:45Z",
    "metrics": {"soc_percent": 67.5, "voltage_v": 385.2},
    "tags": ["room:101"],
    "seq": 17,
}
LATER_EVENT = {"event_id": "m002", "age_ms": 1500, "metrics": {"soc_percent": 67.4}}
ALERT = {
    "device_id": "deviceA",
    "metrics": {"temp": 40},
    "time": "2025-01-15 11:01:00",
    "timestamp": "2025-01-15T11:01:00Z",
    "id": 3,
    "incident_id": 1,
    "rule_id": "r1",
    "metric": "temp",
    "value": 40,
    "op": ">",
    "threshold": 32,
    "severity": "warning",
    "state": "firing",
    "late": False,
    "event_id": "t002",
    "rule_name": "too hot",
    "muted": False,
}
PRESENCE = {
    "id": 4,
    "device_id": "deviceA",
    "state": "offline",
    "since": "2026-02-01T14:33:45Z",
    "reason": "silent",
    "last_seen": "2026-02-01T14:23:45Z",
}
RECEIPT = [
    {"event_id": "m001", "status": "stored"},
    {"event_id": None, "status": "rejected", "reason": "bad_metrics"},
]
DISCOVERY = {
    "device": {"identifiers": ["voltwire:voltwire:deviceA"], "name": "deviceA", "model": "battery"},
    "origin": {"name": "Voltwire"},
    "state_topic": "devices/deviceA/telemetry",
    "availability": [{"topic": "presence/deviceA"}],
    "components": {"temp": {"platform": "sensor", "name": "temp"}},
}

MESSAGES = {
    "telemetry": MessageDescription(
        "One event, or several", Telemetry, (EVENT, [EVENT, LATER_EVENT])
    ),
    "status": MessageDescription(
        "What the device does next",
        StatusBody | Words,
        ({"state": "online", "receipts": True}, {"state": "asleep", "wake_in_s": 3600}, "offline"),
    ),
    "heartbeat": MessageDescription("The device lives", None, (), TEXT),
    "receipt": MessageDescription("A verdict on each event", list[BatchItemResponse], (RECEIPT,)),
    "alert": MessageDescription("An alert", AlertMessage, (ALERT,)),
    "presence": MessageDescription("The state of a device", PresenceChangeResponse, (PRESENCE,)),
    "discovery": MessageDescription("A device and its sensors", dict[str, Any], (DISCOVERY,)),
    "canary": MessageDescription("A number that only Voltwire reads", None, (), TEXT),
}
