"""Topics whose messages are dropped, each named in the log once an hour."""

from collections.abc import Callable
from time import monotonic

import structlog

EVERY_S = 3600
TOPICS_MAX = 1000  # In an hour; further topics are only counted.
SHOWN_CHARS_MAX = 200

log = structlog.get_logger()


class DroppedTopics:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._named: dict[str, float] = {}

    def name(self, topic: str, why: str) -> None:
        """Log the topic, unless that was done within the last hour."""
        now, topic = self._clock(), topic[:SHOWN_CHARS_MAX]
        if now - self._named.get(topic, -EVERY_S) < EVERY_S:
            return
        if topic not in self._named and len(self._named) >= TOPICS_MAX:
            self._named = {each: at for each, at in self._named.items() if now - at < EVERY_S}
            if len(self._named) >= TOPICS_MAX:
                return
        self._named[topic] = now
        log.warning(
            "A message was dropped; later ones of this topic are counted without a line for an hour.",
            topic=topic,
            why=why,
        )
