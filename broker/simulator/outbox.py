"""The outbox of a pretend device: it keeps every event until a receipt says what became of it. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from schema.event import MAX_ITEMS, Status

EVENTS_MAX = 10_000  # A full outbox drops its oldest event, and counts it.
RETRY_S_MIN, RETRY_S_MAX = 2.0, 60.0
DOUBLINGS_MAX = 10


class ReceiptBody(TypedDict):
    """One item of a message on devices/{device_id}/receipts."""

    event_id: str | None  # None: the payload could not be read.
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

    def due_at(self, patience_s: float) -> float:
        """An attempt waits 2, 4, 8 … 60 s for its receipt, and never longer than `patience_s`."""
        pause_s = RETRY_S_MIN * (1 << min(max(self.attempts - 1, 0), DOUBLINGS_MAX))
        return self.sent_at + min(pause_s, RETRY_S_MAX, patience_s)


class EventOutbox:
    """Events in the order in which they were measured."""

    def __init__(self, events_max: int = EVENTS_MAX) -> None:
        self.tally = SendCounts()
        self._events_max = events_max
        self._owed: dict[str, PendingEvent] = {}

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, event_id: str, body: bytes) -> None:
        if len(self._owed) >= self._events_max:
            del self._owed[next(iter(self._owed))]
            self.tally.dropped += 1
        self._owed[event_id] = PendingEvent(body)

    def take_due(self, now: float, *, bytes_max: int, patience_s: float = math.inf) -> list[bytes]:
        """The oldest events that are due, as many as one payload holds; from now on they are sent."""
        taken: list[bytes] = []
        size = len("[]")
        for owed in self._owed.values():
            if owed.due_at(patience_s) > now:
                continue
            size += len(owed.body) + len(",")
            if taken and (size > bytes_max or len(taken) == MAX_ITEMS):
                break
            taken.append(owed.body)
            if owed.attempts:
                self.tally.resent += 1
            else:
                self.tally.sent += 1
            owed.attempts, owed.sent_at = owed.attempts + 1, now
        return taken

    def make_all_due(self) -> None:
        """The connection is a new one: nobody knows what became of the messages on the last."""
        for owed in self._owed.values():
            owed.sent_at = -math.inf

    def settle(self, receipt: ReceiptBody) -> None:
        """The first receipt of an event ends its stay; every one that says duplicate is counted."""
        if receipt["status"] is Status.DUPLICATE:
            self.tally.duplicate += 1
        if self._owed.pop(receipt["event_id"] or "", None) is None:
            return
        if receipt["status"] is Status.STORED:
            self.tally.stored += 1
        elif receipt["status"] is Status.REJECTED:
            self.tally.rejected += 1
            self.tally.reasons[receipt.get("reason", "no reason given")] += 1


def as_payload(bodies: Sequence[bytes]) -> bytes:
    """One event as it is, several as one array."""
    return bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"


def read_receipts(payload: bytes) -> list[ReceiptBody]:
    """What a message on the receipts topic says; nothing if it makes no sense."""
    try:
        return _receipts.validate_json(payload)
    except ValidationError:
        return []


def total(tallies: Iterable[SendCounts]) -> SendCounts:
    whole = SendCounts()
    for tally in tallies:
        whole.sent += tally.sent
        whole.stored += tally.stored
        whole.duplicate += tally.duplicate
        whole.rejected += tally.rejected
        whole.dropped += tally.dropped
        whole.resent += tally.resent
        whole.reasons += tally.reasons
    return whole
