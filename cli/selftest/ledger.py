"""The ledger of a selftest: events sent and verdicts received, compared with what the API returns. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from broker.simulator.outbox import ReceiptBody
from cli.selftest.plan import Entry, Submission
from schema.event import Door, Status

Key = tuple[str, str]  # device_id and event_id


class Ledger:
    """The verdict on each event. One positive verdict on any copy makes it accepted."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = {_key(entry): entry for entry in entries}
        self.acknowledged: set[Key] = set()
        self.refused: dict[Key, str] = {}
        self.recognised = 0  # Copies with the verdict duplicate.
        self.resent = 0  # Events, counted each time.
        self.seconds: dict[Door, list[float]] = {door: [] for door in Door}

    def record(
        self, submission: Submission, verdicts: Sequence[ReceiptBody], seconds: float
    ) -> None:
        """Record the verdicts on one message or post: one per event, in order, after `seconds`."""
        self.seconds[submission.door].append(seconds)
        for entry, verdict in zip(submission.entries, verdicts, strict=True):
            if verdict["status"] is Status.REJECTED:
                self.refused[_key(entry)] = verdict.get("reason", "no reason given")
                continue
            self.acknowledged.add(_key(entry))
            self.recognised += verdict["status"] is Status.DUPLICATE

    @property
    def rejected(self) -> dict[Key, str]:
        """Rejected events with their reasons, except those of which another copy was accepted."""
        return {key: reason for key, reason in self.refused.items() if key not in self.acknowledged}

    @property
    def unanswered(self) -> set[Key]:
        return self.entries.keys() - self.acknowledged - self.refused.keys()

    def doors(self, keys: Iterable[Key]) -> str:
        counts = Counter(self.entries[key].door for key in keys)
        return f"{counts[Door.MQTT]} over MQTT, {counts[Door.HTTP]} over HTTP"


class StoredRow(NamedTuple):
    """An event as the API returned it; `value` is None if it lacks the metric."""

    event_id: str
    value: float | None
    ts: datetime


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What the API returns for one device: its events, and count and sum of their aggregate."""

    rows: Sequence[StoredRow]
    count: int
    sum: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`findings` lists the events behind `lost`, `duplicated` and `unexpected`."""

    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    recovered: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected)


def compare(ledger: Ledger, readings: Mapping[str, DeviceReading]) -> Comparison:
    """Compare the ledger with a reading of every device.

    1. lost: the event was acknowledged and is not returned.
    2. duplicated: each return of an event beyond the first.
    3. unexpected: it is returned with an id, a value or a time that was never sent, or was rejected.
    4. recovered: it is returned although no verdict arrived, which is not an error.
    5. The aggregate must count what was returned, neither less (lost) nor more (duplicated), and its sum
       must match (else unexpected).
    """
    times = Counter(
        (name, row.event_id) for name, reading in readings.items() for row in reading.rows
    )
    rejected = ledger.rejected
    missing = [key for key in ledger.entries if key in ledger.acknowledged and not times[key]]
    doubled = [key for key in ledger.entries if times[key] > 1]
    unexpected_keys = [
        (name, row.event_id)
        for name, reading in readings.items()
        for row in reading.rows
        if not _as_sent(ledger.entries.get((name, row.event_id)), row)
        or (name, row.event_id) in rejected
    ]
    findings = [
        *(f"lost: {_name(key)}" for key in missing),
        *(f"returned {times[key]} times: {_name(key)}" for key in doubled),
        *(f"not as it was sent: {_name(key)}" for key in unexpected_keys),
    ]
    lost, duplicated, unexpected = (
        len(missing),
        sum(times[key] - 1 for key in doubled),
        len(unexpected_keys),
    )
    for name, reading in readings.items():
        returned = [row.value for row in reading.rows if row.value is not None]
        more = reading.count - len(returned)
        wrong = not more and reading.sum != math.fsum(returned)
        lost, duplicated, unexpected = (
            lost + max(-more, 0),
            duplicated + max(more, 0),
            unexpected + wrong,
        )
        if more or wrong:
            findings.append(
                f"the aggregate of {name} has count {reading.count} and sum {reading.sum:g},"
                f" its events {len(returned)} and {math.fsum(returned):g}"
            )
    recovered = sum(times[key] > 0 for key in ledger.unanswered)
    return Comparison(lost, duplicated, unexpected, recovered, findings)


def percentile(seconds: Sequence[float], percent: float) -> float:
    """The nearest rank; `seconds` is not empty."""
    return sorted(seconds)[max(0, math.ceil(len(seconds) * percent / 100) - 1)]


def _as_sent(entry: Entry | None, row: StoredRow) -> bool:
    return entry is not None and (row.value, row.ts) == (entry.value, entry.ts)


def _key(entry: Entry) -> Key:
    return entry.device_id, entry.event_id


def _name(key: Key) -> str:
    return f"event {key[1]} of {key[0]}"
