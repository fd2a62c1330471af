"""The topics of the MQTT side as AsyncAPI has them: channels, and what Voltwire does with each.

The API must not import broker/topics.py, which has the topics for the code;
tests/unit/api/test_asyncapi_document.py compares the two.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MQTT_BINDING = "0.2.0"
PARAMETERS = {
    "device_id": "A letter or digit, then up to 127 of `[A-Za-z0-9._:-]`",
    "rule_id": "The id of the alert rule, or `silent`",
    "instance": "The setting INSTANCE of the installation",
}


class Action(StrEnum):
    """What Voltwire does: receive what devices publish, send to subscribers."""

    RECEIVE = "receive"
    SEND = "send"


@dataclass(frozen=True, slots=True)
class ChannelDescription:
    """`message` is a key of MESSAGES; `reply` is the channel on which Voltwire answers."""

    address: str
    action: Action
    message: str
    description: str
    qos: int = 1
    retain: bool = False
    reply: str | None = None
    parameters: tuple[str, ...] = field(default=("device_id",))

    def document(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "title": self.description.partition(". ")[0].removesuffix("."),
            "description": self.description,
            "parameters": {name: {"description": PARAMETERS[name]} for name in self.parameters},
            "messages": {self.message: _reference("components", "messages", self.message)},
        }

    def operation(self, name: str) -> dict[str, Any]:
        binding = {"qos": self.qos, "retain": self.retain, "bindingVersion": MQTT_BINDING}
        found: dict[str, Any] = {
            "action": str(self.action),
            "channel": _reference("channels", name),
            "messages": [_reference("channels", name, "messages", self.message)],
            "bindings": {"mqtt": binding},
        }
        if self.reply is not None:
            found["reply"] = {"channel": _reference("channels", self.reply)}
        return found


def _reference(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


CHANNELS = {
    "telemetry": ChannelDescription(
        "devices/{device_id}/telemetry",
        Action.RECEIVE,
        "telemetry",
        "Events of a device. Voltwire acknowledges the message after the database has committed it.",
        reply="receipts",
    ),
    "status": ChannelDescription(
        "devices/{device_id}/status",
        Action.RECEIVE,
        "status",
        "Birth, announced sleep and last will of a device. Words may be in upper or lower case.",
        retain=True,
    ),
    "heartbeat": ChannelDescription(
        "devices/{device_id}/heartbeat",
        Action.RECEIVE,
        "heartbeat",
        "A sign of life without a value. The payload may be anything, also empty; QoS 0 or 1.",
    ),
    "receipts": ChannelDescription(
        "devices/{device_id}/receipts",
        Action.SEND,
        "receipt",
        "The verdict on each event of a telemetry message, in order, after the commit. For devices with"
        " receipts turned on, and with MQTT 5 on a Response Topic at or below this one.",
    ),
    "alerts": ChannelDescription(
        "alerts/{device_id}/{rule_id}",
        Action.SEND,
        "alert",
        "Alerts. Retained while the alert fires; the resolved object is not retained, and an empty"
        " retained message follows it.",
        retain=True,
        parameters=("device_id", "rule_id"),
    ),
    "presence": ChannelDescription(
        "presence/{device_id}",
        Action.SEND,
        "presence",
        "Changes of the state of a device. An empty retained message follows when it is deleted.",
        retain=True,
    ),
    "discovery": ChannelDescription(
        "homeassistant/device/{instance}/{device_id}/config",
        Action.SEND,
        "discovery",
        "What Home Assistant discovers a device by, with HA_DISCOVERY. In both names characters other than"
        " letters, digits and `-` are written `_` and two hexadecimal digits.",
        retain=True,
        parameters=("instance", "device_id"),
    ),
    "canary": ChannelDescription(
        "voltwire/{instance}/canary",
        Action.SEND,
        "canary",
        "What Voltwire sends to itself to check that it receives. Nobody else may publish here.",
        parameters=("instance",),
    ),
}
