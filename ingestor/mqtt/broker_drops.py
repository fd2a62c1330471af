"""What the broker says that it dropped: messages it acknowledged to a device and never gave to us."""

import structlog

from runtime.metrics import Metrics

log = structlog.get_logger()


class DropWatch:
    """Follows Mosquitto's counter, which begins at 0 when the broker starts.

    It counts for all clients together: messages that nobody fetched in time, ours or not.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def take(self, payload: bytes) -> None:
        """A report of the broker; one that is no number says nothing."""
        if not payload.isdigit():
            return
        dropped, before = int(payload), self._metrics.broker_dropped
        self._metrics.broker_dropped = dropped
        if before is None and dropped:
            log.warning(
                "The broker dropped messages before this ingestor looked.", since_its_start=dropped
            )
        elif before is not None and dropped > before:
            log.error(
                "The broker dropped messages because a queue was full: raise max_queued_messages and"
                " max_queued_bytes.",
                messages=dropped - before,
                since_its_start=dropped,
            )
