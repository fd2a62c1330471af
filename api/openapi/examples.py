"""An example of every parameter and body, so that in `/docs` the first click on Execute succeeds.

They fit each other and the README: an event e001 of deviceA with the metric temp, a rule r1 that it violates.
`/docs` fills in the examples of required parameters, and those of FILLED. The others would narrow the query:
they are shown, and nothing is filled in.
"""

from typing import Any

from schema.event import Door, Reason
from schema.presence import PresenceState

EVENT = {
    "event_id": "e001",
    "device_id": "deviceA",
    "timestamp": "2025-01-15T10:00:00Z",
    "metrics": {"temp": 34.2, "cpu": 0.44},
    "tags": ["room:101", "sensor:v2"],
}
REGISTRATION = {
    "name": "Shed",
    "profile": "battery",
    "tags": ["roof", "fleet:south"],
    "attributes": {"model": "X-2", "rated_kwh": 5.2},
    "interval_s": 60,
    "tz": "Europe/Berlin",
}
RULE = {"device_id": "deviceA", "metric": "temp", "op": ">", "threshold": 32}
CHANNEL = {"url": "ntfys://ntfy.example.com/alerts"}
OTHER_DEVICE = {"device_id": "deviceC"}  # So that nobody changes deviceA unawares.
OPS = {"name": "ops"}

# Examples by the name of the parameter, wherever it occurs; OF_OPERATION has the exceptions.
PARAMETERS: dict[str, Any] = {
    "Last-Event-ID": "17",
    "action": "device.register",
    "actor": "anyone",
    "address": "127.0.0.1",
    "any_tag": ["room:101"],
    "certificate": False,
    "cursor": "WyI0N2VlIiwxXQ",
    "date": "2025-01-15",
    "device_id": "deviceA",
    "device_tag": ["fleet:south"],
    "device_tag_prefix": "fleet:",
    "door": str(Door.HTTP),
    "end_time": "2025-01-16T00:00:00Z",
    "events": True,
    "fill": "none",
    "from_time": "2025-01-15T00:00:00Z",
    "group_by": ["device"],
    "having": ["avg>30"],
    "incident_id": 1,
    "interval": "1m",
    "lastEventId": "17",
    "last_event_id": "17",
    "latest": True,
    "latest_device_id": "deviceA",
    "limit": 100,
    "max_points": 500,
    "metric": "temp",
    "q": "device",
    "reason": str(Reason.OUT_OF_RANGE),
    "rejected_id": 1,
    "replayed": False,
    "rule_id": "r1",
    "severity": "warning",
    "silence_id": 1,
    "start_time": "2025-01-15T00:00:00Z",
    "state": str(PresenceState.ONLINE),
    "stats": "count,avg,max",
    "tag": "room:101",
    "tag_prefix": "room:",
    "target": "deviceC",
    "to_time": "2025-01-16T00:00:00Z",
    "topics": "latest,alerts",
    "tz": "Europe/Berlin",
    "where": ["cpu<1"],
}
OF_OPERATION: dict[str, dict[str, Any]] = {
    "GET /v1/export": {"format": "csv"},
    "GET /v1/metrics/aggregate": {"format": "columns"},
    "GET /v1/devices": {"tag": "roof"},
    "GET /v1/latest": {"state": [str(PresenceState.ONLINE)]},
    "GET /v1/incidents": {"state": "open"},
    "GET /v1/profiles/{name}": {"name": "battery"},
    "PUT /v1/profiles/{name}": {"name": "freezer"},
    "PUT /v1/devices/{device_id}": OTHER_DEVICE,
    "DELETE /v1/devices/{device_id}": OTHER_DEVICE,
    "POST /v1/devices/{device_id}/credentials": OTHER_DEVICE,
    "POST /v1/devices/{device_id}/credentials/rotate": OTHER_DEVICE,
    "DELETE /v1/devices/{device_id}/credentials": OTHER_DEVICE,
    "GET /v1/channels/{name}": OPS,
    "PUT /v1/channels/{name}": OPS,
    "DELETE /v1/channels/{name}": OPS,
    "POST /v1/channels/{name}/test": OPS,
    "DELETE /v1/keys/{name}": {"name": "ci"},
}
FILLED: dict[str, tuple[str, ...]] = {
    "GET /v1/search": ("tag",),
    "GET /v1/metrics/aggregate": ("device_id",),
    "GET /v1/export": ("device_id",),
}

BODIES: dict[str, Any] = {
    "POST /v1/events": EVENT,
    "POST /telemetry": EVENT,
    "POST /v1/events/batch": [
        {
            "event_id": "e002",
            "device_id": "deviceA",
            "timestamp": "2025-01-15T10:02:00Z",
            "metrics": {"temp": 30},
            "tags": ["room:101"],
        },
        {
            "event_id": "e003",
            "device_id": "deviceA",
            "timestamp": "2025-01-15T10:03:00Z",
            "metrics": {"temp": 35},
            "tags": ["room:102"],
        },
    ],
    "POST /v1/devices": OTHER_DEVICE | REGISTRATION,
    "POST /v1/devices/import": [OTHER_DEVICE | REGISTRATION, {"device_id": "deviceD"}],
    "PUT /v1/devices/{device_id}": REGISTRATION,
    "PUT /v1/profiles/{name}": {"metrics": {"temp": {"unit": "Cel", "min": -40, "max": 10}}},
    "POST /v1/alerts": RULE,
    "PUT /v1/alerts/{rule_id}": {**RULE, "clear_threshold": 30, "notify": "change"},
    "POST /v1/alerts/backtest": {
        "rule": {"metric": "temp", "op": ">", "threshold": 32},
        "from_time": "2025-01-15T00:00:00Z",
        "to_time": "2025-01-16T00:00:00Z",
    },
    "POST /v1/incidents/{incident_id}/ack": {"by": "ana", "note": "I am on my way."},
    "POST /v1/silences": {
        "device_id": "deviceA",
        "to_time": "2030-01-01T00:00:00Z",
        "reason": "maintenance",
    },
    "POST /v1/channels": {"name": "ops", **CHANNEL},
    "PUT /v1/channels/{name}": CHANNEL,
    "POST /v1/rejected/replay": {"device_id": "deviceA"},
    "POST /v1/keys": {"name": "ci", "scopes": ["ingest"]},
    "POST /v1/devices/{device_id}/credentials/rotate": {"overlap_s": 3600},
    "POST /v1/session": {"key": "vwk_…"},
}
CSV_FILE = """\
device_id,name,tags,interval_s,tz,attributes.model
deviceC,Shed,roof;fleet:south,60,Europe/Berlin,X-2
deviceD,,,,,
"""


def add_examples(name: str, operation: dict[str, Any]) -> None:
    """`name` is the method and the path of the operation, which is a part of an OpenAPI document."""
    examples = PARAMETERS | OF_OPERATION.get(name, {})
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in examples:
            filled = parameter.get("required") or parameter["name"] in FILLED.get(name, ())
            _add_example(parameter, examples[parameter["name"]], filled=filled)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        if media_type == "text/csv":
            content["example"] = CSV_FILE
        elif name in BODIES:
            content["example"] = BODIES[name]


def _add_example(parameter: dict[str, Any], value: Any, *, filled: bool) -> None:
    """An example of the parameter is filled in by `/docs`, one of its schema is not."""
    schema = parameter["schema"]
    if schema.get("type") == "array" and not isinstance(value, list):
        value = [value]
    if filled:
        parameter["example"] = value
    else:
        schema["examples"] = [value]
