"""The retained messages of the embedded broker, within limits."""

import re
from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from broker import topics
from broker.embedded import limits


class RetainedMessage(NamedTuple):
    payload: bytes
    qos: int
    kind: "RetainedKind"


class RetainedKind(StrEnum):
    OURS = "ours"  # Published by one of our own sessions.
    DEVICE = "device"
    OTHER = "other"


class RetainedMessages:
    def __init__(self) -> None:
        self._messages: dict[str, RetainedMessage] = {}
        self._topics: Counter[RetainedKind] = Counter()
        self._bytes = 0  # Topics and payloads of all but our own.

    def get(self, topic: str) -> RetainedMessage | None:
        return self._messages.get(topic)

    def set(self, topic: str, payload: bytes, qos: int, *, ours: bool) -> bool:
        """False if a limit does not allow it: then nothing is retained. An empty payload clears the topic."""
        self._forget(topic)
        if not payload:
            return True
        message = RetainedMessage(payload, qos, _kind(topic, ours=ours))
        size = _size(topic, message)
        topics_max = {
            RetainedKind.DEVICE: limits.RETAINED_DEVICE_TOPICS_MAX,
            RetainedKind.OTHER: limits.RETAINED_OTHER_TOPICS_MAX,
        }.get(message.kind)
        if topics_max is not None and self._topics[message.kind] >= topics_max:
            return False
        if size and self._bytes + size > limits.RETAINED_BYTES_MAX:
            return False
        self._messages[topic] = message
        self._topics[message.kind] += 1
        self._bytes += size
        return True

    def topics(self, topic_filter: str) -> list[str]:
        """All topics that a filter may match: one without wildcards, else all. `match` decides."""
        if "+" not in topic_filter and "#" not in topic_filter:
            return [topic_filter] if topic_filter in self._messages else []
        return list(self._messages)

    def _forget(self, topic: str) -> None:
        if old := self._messages.pop(topic, None):
            self._topics[old.kind] -= 1
            self._bytes -= _size(topic, old)


def compile_filter(topic_filter: str) -> re.Pattern[str]:
    """A pattern for `fullmatch` on topics that do not begin with $."""
    levels = ["[^/]*" if level == "+" else re.escape(level) for level in topic_filter.split("/")]
    if levels[-1] != re.escape("#"):
        return re.compile("/".join(levels), re.DOTALL)
    parent = "/".join(levels[:-1])
    return re.compile(f"{parent}(/.*)?" if levels[:-1] else ".*", re.DOTALL)


def _kind(topic: str, *, ours: bool) -> RetainedKind:
    if ours:
        return RetainedKind.OURS
    return RetainedKind.DEVICE if topics.parse(topic) else RetainedKind.OTHER


def _size(topic: str, message: RetainedMessage) -> int:
    return 0 if message.kind is RetainedKind.OURS else len(topic) + len(message.payload)
