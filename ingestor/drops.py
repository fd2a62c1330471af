"""What the broker says that it dropped: messages it acknowledged to a device and never gave to us."""

import structlog
from prometheus_client import Gauge

log = structlog.get_logger()


class DropWatch:
    """Follows Mosquitto's counter, which begins at 0 when the broker starts.

    It counts for all clients together: messages that nobody fetched in time, ours or not.
    """

    def __init__(self, dropped: Gauge) -> None:
        self._gauge, self._seen = dropped, 0

    def take(self, payload: bytes) -> None:
        """A report of the broker; one that is no number says nothing."""
        if not payload.isdigit():
            return
        dropped = int(payload)
        if dropped > self._seen:
            log.error(
                "The broker dropped messages because a queue was full: raise max_queued_messages and"
                " max_queued_bytes.",
                messages=dropped - self._seen,
                since_its_start=dropped,
            )
        self._seen = dropped
        self._gauge.set(dropped)
