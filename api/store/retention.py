"""Whether retention still keeps the raw events that a query needs."""

from datetime import datetime, timedelta

from runtime.errors import RawEventsDropped
from schema.instants import EARLIEST


def require_kept(start: datetime, floor: datetime) -> None:
    """Raises RawEventsDropped. No event is ever accepted from before EARLIEST."""
    if max(start, EARLIEST) < floor:
        raise RawEventsDropped(floor)


def first_needed(start: datetime | None, end: datetime | None) -> datetime | None:
    """The instant whose events must be kept for a range to be answered: its first one.

    A range without a start means all events that there are; it fails only if even its last instant is
    no longer kept.
    """
    if start is not None or end is None:
        return start
    return max(end, EARLIEST) - timedelta(microseconds=1)
