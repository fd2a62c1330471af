"""The origin of a payload, the accepted window of event times, and the derived event id. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Self
from uuid import uuid4

import msgspec

from runtime.settings import Settings
from schema.event import AUTO_ID, RANDOM_ID, Reason
from schema.instants import from_epoch_us

Fault = tuple[Reason, str]  # Why an event is refused, and a sentence on it.


class RefusedError(Exception):
    """One item cannot become an event. The decoders raise and catch it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class AcceptLimits:
    """The accepted window of event times and the payload size. No `retention`: events are kept forever."""

    max_age: timedelta
    max_future: timedelta
    payload_bytes_max: int
    retention: timedelta | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            max_age=timedelta(days=settings.max_event_age_days),
            max_future=timedelta(seconds=settings.max_future_seconds),
            payload_bytes_max=settings.max_payload_bytes,
            retention=timedelta(days=settings.retention_days) if settings.retention_days else None,
        )

    @property
    def accepted_age(self) -> timedelta:
        return self.max_age if self.retention is None else min(self.max_age, self.retention)

    def refusal_of_age(self, age: timedelta) -> tuple[Reason, timedelta] | None:
        """Why an event of that age is refused, and the limit it exceeds; retention is checked first."""
        if self.retention is not None and age > self.retention:
            return Reason.OLDER_THAN_RETENTION, self.retention
        return (Reason.TOO_OLD, self.max_age) if age > self.max_age else None


class Origin(msgspec.Struct, frozen=True, gc=False):
    """What the door knows of a payload.

    `device_id` comes from the topic, over HTTP from the secret of a device; with a key the body names it.
    `received_us` is the time of arrival in microseconds since the Unix epoch. `replay_of` is the number of
    the dead letter that is replayed: it must not create a second one.
    """

    received_us: int
    device_id: str | None = None
    retained: bool = False
    replay_of: int | None = None

    @property
    def received_at(self) -> datetime:
        return from_epoch_us(self.received_us)


def outside_window(ts: datetime, now: datetime, limits: AcceptLimits) -> Fault | None:
    """Why a time that was accepted on arrival is no longer accepted at `now`, else None."""
    if (too_old := limits.refusal_of_age(now - ts)) is not None:
        reason, limit = too_old
        return reason, f"more than {limit.days} days ago"
    if ts > now + limits.max_future:
        seconds = limits.max_future.total_seconds()
        return Reason.IN_THE_FUTURE, f"more than {seconds:.0f} s ahead of our clock"
    return None


def derived_id(
    device_id: str, own_time_us: int | None, content: tuple[Any, ...], origin: Origin, index: int
) -> str:
    """The id of an event that has none. It starts with the time, so that the keys of a device grow.

    Without a time of its own, a resent event cannot be recognised, and the id is random. A replayed event
    gets the number of its dead letter instead, so that a second replay is recognised.
    """
    if own_time_us is None:
        if origin.retained:
            detail = "a retained message is delivered repeatedly: give event_id or a time"
            raise RefusedError(Reason.NO_IDENTITY, detail)
        if origin.replay_of is not None:
            return f"{RANDOM_ID}{origin.replay_of:x}-{index:x}"
        return f"{RANDOM_ID}{uuid4().hex}"
    metrics, tags, seq = content
    text = msgspec.json.encode([device_id, sorted(metrics.items()), tags, seq])
    return f"{AUTO_ID}{own_time_us:x}-{blake2b(text, digest_size=8).hexdigest()}"
