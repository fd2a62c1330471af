"""Reports of the broker about dropped messages: acknowledged to a device and never delivered to us."""

import structlog

from runtime.metrics import Metrics

log = structlog.get_logger()


class DropWatch:
    """Follows Mosquitto's counter, which starts at 0 with the broker.

    It counts the dropped messages of all clients together, not only ours.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def take(self, payload: bytes) -> None:
        """Take a report of the broker; one that is not a number is ignored."""
        if not payload.isdigit():
            return
        dropped, before = int(payload), self._metrics.broker_dropped
        self._metrics.broker_dropped = dropped
        if before is None and dropped:
            log.warning(
                "The broker dropped messages before this ingestor first read its counter.",
                since_its_start=dropped,
            )
        elif before is not None and dropped > before:
            log.error(
                "The broker dropped messages because a queue was full: raise max_queued_messages and"
                " max_queued_bytes.",
                messages=dropped - before,
                since_its_start=dropped,
            )
