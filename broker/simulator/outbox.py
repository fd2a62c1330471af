"""The outbox of a simulated device, which keeps every event until its receipt comes. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from schema.event import MAX_ITEMS, Status

EVENTS_MAX = 10_000  # A full outbox drops its oldest event and counts it.
RETRY_S_MIN, RETRY_S_MAX = 2.0, 60.0
DOUBLINGS_MAX = 10


class ReceiptBody(TypedDict):
    """One item of a message on devices/{device_id}/receipts."""

    event_id: str | None  # None: the payload could not be decoded.
    status: Status
    reason: NotRequired[str]


_receipts = TypeAdapter(list[ReceiptBody])


@dataclass(slots=True)
class SendCounts:
    """`sent`, `stored`, `rejected` and `dropped` count events, `resent` and `duplicate` their copies."""

    sent: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    dropped: int = 0
    resent: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class PendingEvent:
    """An event without a receipt."""

    body: bytes
    attempts: int = 0
    sent_at: float = -math.inf

    def due_at(self, retry_s_max: float) -> float:
        """Attempts are 2, 4, 8 … 60 s apart, and at most `retry_s_max`."""
        pause_s = RETRY_S_MIN * (1 << min(max(self.attempts - 1, 0), DOUBLINGS_MAX))
        return self.sent_at + min(pause_s, RETRY_S_MAX, retry_s_max)


class EventOutbox:
    """Events in the order in which they were measured."""

    def __init__(self, events_max: int = EVENTS_MAX) -> None:
        self.counts = SendCounts()
        self._events_max = events_max
        self._pending: dict[str, PendingEvent] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, event_id: str, body: bytes) -> None:
        if len(self._pending) >= self._events_max:
            del self._pending[next(iter(self._pending))]
            self.counts.dropped += 1
        self._pending[event_id] = PendingEvent(body)

    @property
    def unsent(self) -> int:
        """Events that no message has held yet."""
        return sum(not pending.attempts for pending in self._pending.values())

    def take_due(self, now: float, *, bytes_max: int, retry_s_max: float = math.inf) -> list[bytes]:
        """Take the oldest events that are due, as many as fit in one payload, and mark them as sent."""
        taken: list[bytes] = []
        size = len("[]")
        for pending in self._pending.values():
            if pending.due_at(retry_s_max) > now:
                continue
            size += len(pending.body) + len(",")
            if taken and (size > bytes_max or len(taken) == MAX_ITEMS):
                break
            taken.append(pending.body)
            if pending.attempts:
                self.counts.resent += 1
            else:
                self.counts.sent += 1
            pending.attempts, pending.sent_at = pending.attempts + 1, now
        return taken

    def make_all_due(self) -> None:
        """Called for a new connection: it is unknown whether the messages on the last one arrived."""
        for pending in self._pending.values():
            pending.sent_at = -math.inf

    def settle(self, receipt: ReceiptBody) -> None:
        """The first receipt of an event removes it; every receipt with `duplicate` is counted."""
        if receipt["status"] is Status.DUPLICATE:
            self.counts.duplicate += 1
        if self._pending.pop(receipt["event_id"] or "", None) is None:
            return
        if receipt["status"] is Status.STORED:
            self.counts.stored += 1
        elif receipt["status"] is Status.REJECTED:
            self.counts.rejected += 1
            self.counts.reasons[receipt.get("reason", "no reason given")] += 1


def as_payload(bodies: Sequence[bytes]) -> bytes:
    """One event as an object, several as an array."""
    return bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"


def read_receipts(payload: bytes) -> list[ReceiptBody]:
    """The receipts in a message on the receipts topic; none if it is malformed."""
    try:
        return _receipts.validate_json(payload)
    except ValidationError:
        return []


def total(parts: Iterable[SendCounts]) -> SendCounts:
    whole = SendCounts()
    for part in parts:
        whole.sent += part.sent
        whole.stored += part.stored
        whole.duplicate += part.duplicate
        whole.rejected += part.rejected
        whole.dropped += part.dropped
        whole.resent += part.resent
        whole.reasons += part.reasons
    return whole
