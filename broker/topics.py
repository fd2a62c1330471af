"""The topics of the contract: those that devices publish to, those of Voltwire, and their parser."""

import re
from enum import StrEnum

from schema.event import ID

RESPONSE_TOPIC_BYTES_MAX = (
    1024  # A broker holds the topic of each receipt that a device leaves there.
)
# Mosquitto cuts off a client that publishes to a topic of more than 200 levels, EMQX one of more than 128.
RESPONSE_LEVELS_MAX = 64


class TopicKind(StrEnum):
    """What a device sends, named by the last level of its topic."""

    __hash__ = str.__hash__  # Faster: the hash of Enum is Python code.

    TELEMETRY = "telemetry"
    STATUS = "status"
    HEARTBEAT = "heartbeat"


# The filters do not overlap: with MQTT 5 a message that matches two of them arrives twice.
DEVICE_FILTERS = tuple(f"devices/+/{kind}" for kind in TopicKind)

# Mosquitto's count of the messages that it dropped because the queue of some client was full.
DROPPED = "$SYS/broker/publish/messages/dropped"

SHARE = "$share/"
HOME_ASSISTANT = "homeassistant"  # Its discovery prefix, if nobody has changed it.

_KINDS = {kind.value: kind for kind in TopicKind}
_match_device_topic = re.compile(rf"devices/({ID})/({'|'.join(TopicKind)})").fullmatch


def parse(topic: str) -> tuple[TopicKind, str] | None:
    """The kind and the device id of a topic that devices publish to; None for any other topic.

    A call takes 0.7 µs: callers that parse every message cache the results.
    """
    found = _match_device_topic(topic)
    return None if found is None else (_KINDS[found[2]], found[1])


def device(device_id: str, kind: TopicKind) -> str:
    return f"devices/{device_id}/{kind}"


def receipts(device_id: str) -> str:
    return f"devices/{device_id}/receipts"


def alert(device_id: str, rule_id: str) -> str:
    return f"alerts/{device_id}/{rule_id}"


def presence(device_id: str) -> str:
    return f"presence/{device_id}"


def canary(instance: str, number: int = 1) -> str:
    """Each member of an instance has its own, to which it publishes and subscribes."""
    return f"voltwire/{instance}/canary" + (f"/{number}" if number > 1 else "")


def discovery(instance: str, device_id: str) -> str:
    """Where Home Assistant looks for the sensors of a device."""
    return f"{discovery_root(instance)}/{slug(device_id)}/config"


def discovery_root(instance: str) -> str:
    return f"{HOME_ASSISTANT}/device/{slug(instance)}"


def slug(text: str) -> str:
    """A name of `[A-Za-z0-9_-]`, which is all that Home Assistant allows; no two texts have the same."""
    return re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):02x}", text)


def shared(group: str, topic_filter: str) -> str:
    """Each message goes to one member of the group (MQTT 5, 4.8.2)."""
    return f"{SHARE}{group}/{topic_filter}"


def is_shared(topic_filter: str) -> bool:
    return topic_filter.startswith(SHARE)


def takes_receipts(response_topic: str, device_id: str) -> bool:
    """Whether the receipts of this device may be published to a Response Topic.

    The ingestor ignores any other: a device must not make it publish to the topics of another one, nor
    to one for which a broker ends the ingestor's connection, nor to one that costs much memory.
    """
    own = receipts(device_id)
    return (
        (response_topic == own or response_topic.startswith(f"{own}/"))
        and not set("+#\0") & set(response_topic)  # [MQTT-3.3.2-2], [MQTT-1.5.3-2]
        and len(response_topic.encode()) <= RESPONSE_TOPIC_BYTES_MAX
        and response_topic.count("/") < RESPONSE_LEVELS_MAX
    )
