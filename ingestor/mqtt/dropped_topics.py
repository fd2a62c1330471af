"""Topics whose messages are dropped, each named in the log once an hour."""

from collections.abc import Callable
from time import monotonic

import structlog

from ingestor.mqtt.log_once import LogOnce

EVERY_S = 3600
TOPICS_MAX = 1000  # Named in an hour; further topics are only counted.
SHOWN_CHARS_MAX = 200

log = structlog.get_logger()


class DroppedTopics:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._once = LogOnce(EVERY_S, TOPICS_MAX, clock)

    def name(self, topic: str, why: str) -> None:
        """Log the topic, unless that was done within the last hour."""
        topic = topic[:SHOWN_CHARS_MAX]
        if self._once.due(topic):
            log.warning(
                "A message was dropped; later ones of this topic are counted without a line for an hour.",
                topic=topic,
                why=why,
            )
