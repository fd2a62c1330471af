"""Times without offset: what the clock of a device showed. Pure.

The decoders do not know the time zone of a device, so they keep the time as it is written (`Event.wall_us`).
The registry knows the zone when a batch is built, and again when it has changed (ingestor/store/registry.py).
"""

from ingestor.decode.acceptance import AcceptLimits, Fault
from schema.event import Event, Reason
from schema.instants import MICROSECOND, epoch_us, from_epoch_us
from schema.zones import zone_named

OFFSET_US_MAX = 86_400_000_000  # A day: no zone is so far from UTC.
UTC_ASSUMED = "UTC, because its device has no tz"


def nearest_us(wall_us: int, to_us: int) -> int:
    """The instant nearest to `to_us` among all that a wall clock may mean, in any zone."""
    return min(max(to_us, wall_us - OFFSET_US_MAX), wall_us + OFFSET_US_MAX)


def instant_us(wall_us: int, tz: str) -> int:
    """The instant at which the clocks of a zone show this; of two the earlier.

    A time that they skip counts by the offset before. Both are what fold=0 means (PEP 495). Raises KeyError.
    """
    return epoch_us(from_epoch_us(wall_us).replace(tzinfo=zone_named(tz)))


class WallClocks:
    """Gives events with a wall clock their instants."""

    def __init__(self, limits: AcceptLimits) -> None:
        self._limits = limits
        self._max_age_us = limits.accepted_age // MICROSECOND
        self._max_future_us = limits.max_future // MICROSECOND

    def place(self, event: Event, tz: str | None) -> Fault | None:
        """Set the time of the event if it has a wall clock. Returns why it is refused then, if it is."""
        wall_us = event.wall_us
        if wall_us is None:
            return None
        try:
            event.ts_us = wall_us if tz is None else instant_us(wall_us, tz)
        except KeyError:
            detail = f"timestamp: this server knows no time zone {tz}, the tz of its device"
            return Reason.BAD_TIME, detail
        if -self._max_age_us <= event.ts_us - event.received_us <= self._max_future_us:
            return None
        return self._outside_window(event, tz or UTC_ASSUMED)

    def _outside_window(self, event: Event, zone: str) -> Fault:
        read = f"; without an offset it counts as {zone}"
        if (too_old := self._limits.refusal_of_age(event.received_at - event.ts)) is not None:
            reason, limit = too_old
            return reason, f"timestamp: more than {limit.days} days before arrival{read}"
        seconds = self._limits.max_future.total_seconds()
        return Reason.IN_THE_FUTURE, f"timestamp: more than {seconds:.0f} s after arrival{read}"
