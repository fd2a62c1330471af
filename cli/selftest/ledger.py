"""The ledger of a selftest: what was attempted and answered, held against what the API returns. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from broker.simulator.outbox import ReceiptBody
from cli.selftest.plan import Entry, Sending
from schema.event import Door, Status

Key = tuple[str, str]  # device_id and event_id


class Ledger:
    """What became of each event, by the answers. One good answer is enough: it was accepted."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = {_key(entry): entry for entry in entries}
        self.acknowledged: set[Key] = set()
        self.refused: dict[Key, str] = {}
        self.recognised = 0  # Copies that were answered as duplicates.
        self.resent = 0  # Events, each time counted.
        self.seconds: dict[Door, list[float]] = {door: [] for door in Door}

    def take(self, sending: Sending, answers: Sequence[ReceiptBody], seconds: float) -> None:
        """The answer to one message or post: an item per event, in order, so many seconds later."""
        self.seconds[sending.door].append(seconds)
        for entry, answer in zip(sending.entries, answers, strict=True):
            if answer["status"] is Status.REJECTED:
                self.refused[_key(entry)] = answer.get("reason", "no reason given")
                continue
            self.acknowledged.add(_key(entry))
            self.recognised += answer["status"] is Status.DUPLICATE

    @property
    def rejected(self) -> dict[Key, str]:
        """With the reasons; an event that another copy brought in is none of them."""
        return {key: why for key, why in self.refused.items() if key not in self.acknowledged}

    @property
    def unanswered(self) -> set[Key]:
        return self.entries.keys() - self.acknowledged - self.refused.keys()

    def doors(self, keys: Iterable[Key]) -> str:
        counts = Counter(self.entries[key].door for key in keys)
        return f"{counts[Door.MQTT]} over MQTT, {counts[Door.HTTP]} over HTTP"


class StoredRow(NamedTuple):
    """An event as the API returned it; `value` None: it has no such metric."""

    event_id: str
    value: float | None
    ts: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """What the API says about one device: its events, and the count and sum of their aggregate."""

    rows: Sequence[StoredRow]
    count: int
    sum: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`findings` names what is behind `lost`, `duplicated` and `unexpected`."""

    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    recovered: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected)


def compare(ledger: Ledger, readings: Mapping[str, Reading]) -> Comparison:
    """Hold the ledger against a reading of every device.

    1. lost: acknowledged, and not returned.
    2. duplicated: each time beyond the first that an event is returned.
    3. unexpected: returned with an id, a value or a time that was never sent, or though it was rejected.
    4. recovered: returned though no answer came, which is nobody's fault.
    5. The aggregate must count what was returned, neither less (lost) nor more (duplicated), and sum it
       up (else unexpected).
    """
    times = Counter(
        (name, row.event_id) for name, reading in readings.items() for row in reading.rows
    )
    rejected = ledger.rejected
    missing = [key for key in ledger.entries if key in ledger.acknowledged and not times[key]]
    doubled = [key for key in ledger.entries if times[key] > 1]
    strange = [
        (name, row.event_id)
        for name, reading in readings.items()
        for row in reading.rows
        if not _as_sent(ledger.entries.get((name, row.event_id)), row)
        or (name, row.event_id) in rejected
    ]
    findings = [
        *(f"lost: {_name(key)}" for key in missing),
        *(f"returned {times[key]} times: {_name(key)}" for key in doubled),
        *(f"not as it was sent: {_name(key)}" for key in strange),
    ]
    lost, duplicated, unexpected = (
        len(missing),
        sum(times[key] - 1 for key in doubled),
        len(strange),
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
    """The nearest rank; there is at least one."""
    return sorted(seconds)[max(0, math.ceil(len(seconds) * percent / 100) - 1)]


def _as_sent(entry: Entry | None, row: StoredRow) -> bool:
    return entry is not None and (row.value, row.ts) == (entry.value, entry.ts)


def _key(entry: Entry) -> Key:
    return entry.device_id, entry.event_id


def _name(key: Key) -> str:
    return f"event {key[1]} of {key[0]}"
