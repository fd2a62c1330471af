"""The plan of a selftest: its events, and which are sent together over which door. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pydantic_core import to_json

from schema.event import Door
from schema.instants import rfc3339

METRIC = TAG = "selftest"
EVENT_BYTES_MAX = 256  # One event as JSON; MAX_PAYLOAD_BYTES is never less.
ARRAY_MAX, BATCH_MAX = 20, 100
SINGLE_SHARE = 0.3  # Share of MQTT messages with one event; the others are arrays.
SINGLE_POSTS = 3  # Per device: with repeats they stay below the default rate limit.
REPEATED_SHARE = 0.1  # Share of messages and posts that are sent twice over the same door.
CROSSING_SHARE = 0.05  # Share of a door's events that are sent over the other door as well.
STEP = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that must be stored exactly once. A copy may be sent over the other door."""

    device_id: str
    event_id: str
    door: Door
    value: int  # Unique in the run, so that the sum detects errors that the count hides.
    ts: datetime

    def body(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "device_id": self.device_id,
            "timestamp": rfc3339(self.ts),
            "metrics": {METRIC: self.value},
            "tags": [TAG],
        }


@dataclass(frozen=True, slots=True)
class Submission:
    """One message or post: a single event as an object, several as an array."""

    door: Door
    entries: tuple[Entry, ...]

    @property
    def event_ids(self) -> tuple[str, ...]:
        return tuple(entry.event_id for entry in self.entries)

    @property
    def payload(self) -> bytes:
        bodies = [entry.body() for entry in self.entries]
        return to_json(bodies[0] if len(bodies) == 1 else bodies)


@dataclass(frozen=True, slots=True)
class Plan:
    """`submissions` are in the order of sending and include the deliberate repeats."""

    device_ids: tuple[str, ...]
    entries: tuple[Entry, ...]
    submissions: tuple[Submission, ...]

    @property
    def start(self) -> datetime:
        """The time stamps are in [start, end)."""
        return self.entries[0].ts

    @property
    def end(self) -> datetime:
        return self.entries[-1].ts + STEP

    @property
    def copies(self) -> int:
        """How many extra copies of events are sent on purpose."""
        return sum(len(submission.entries) for submission in self.submissions) - len(self.entries)

    def over(self, door: Door, device_id: str | None = None) -> list[Submission]:
        """The submissions over a door, or over MQTT on the topic of one device."""
        return [
            submission
            for submission in self.submissions
            if submission.door is door and device_id in {None, submission.entries[0].device_id}
        ]


def make_plan(
    run: str, now: datetime, *, events: int, devices: int, seed: int, payload_bytes_max: int
) -> Plan:
    """Plan `events` per door on new devices; the seed decides the rest.

    1. Number the events. Their times are a millisecond apart and end at `now`.
    2. Give each device events of both doors, so that both doors write to the same devices.
    3. Group them into messages and posts of different sizes.
    4. Send some of these twice over their door, and some events over the other door as well.
    5. Shuffle everything: events arrive out of order, repeats before or after the original.
    """
    random = Random(seed)  # noqa: S311  # Not for a secret.
    device_ids = tuple(f"selftest-{run}-{n}" for n in range(1, devices + 1))
    total = 2 * events
    entries = tuple(
        Entry(
            device_ids[n // 2 % devices],
            f"{n + 1:07}",
            Door.HTTP if n % 2 else Door.MQTT,
            n + 1,
            now - (total - n) * STEP,
        )
        for n in range(total)
    )
    array_max = min(ARRAY_MAX, payload_bytes_max // EVENT_BYTES_MAX)
    submissions: list[Submission] = []
    for door in Door:
        own = [entry for entry in entries if entry.door is door]
        other = [entry for entry in entries if entry.door is not door]
        planned = list(_group(door, own, random, array_max))
        planned += random.sample(planned, _share(planned, REPEATED_SHARE))
        crossing = sorted(random.sample(other, _share(other, CROSSING_SHARE)), key=_by_number)
        submissions += [*planned, *_group(door, crossing, random, array_max)]
    random.shuffle(submissions)
    return Plan(device_ids, entries, tuple(submissions))


def _group(
    door: Door, entries: Sequence[Entry], random: Random, array_max: int
) -> Iterator[Submission]:
    """An MQTT message holds events of one device, an HTTP batch of any devices."""
    by_device: dict[str, list[Entry]] = {}
    for entry in entries:
        by_device.setdefault(entry.device_id, []).append(entry)
    if door is Door.MQTT:
        for own in by_device.values():
            yield from _chunks(door, own, random, array_max, SINGLE_SHARE)
        return
    singles = {entry for own in by_device.values() for entry in own[:SINGLE_POSTS]}
    yield from (Submission(door, (entry,)) for entry in entries if entry in singles)
    batched = [entry for entry in entries if entry not in singles]
    yield from _chunks(door, batched, random, BATCH_MAX, 0)


def _chunks(
    door: Door, entries: Sequence[Entry], random: Random, size_max: int, single_share: float
) -> Iterator[Submission]:
    rest = list(entries)
    while rest:
        size = 1 if random.random() < single_share else random.randint(min(2, size_max), size_max)
        yield Submission(door, tuple(rest[:size]))
        del rest[:size]


def _share(items: Sequence[object], share: float) -> int:
    """At least one, so that a small run has repeats as well."""
    return min(len(items), max(1, round(len(items) * share)))


def _by_number(entry: Entry) -> int:
    return entry.value
