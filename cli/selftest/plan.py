"""What a selftest sends: the events, and which of them travel together over which door. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pydantic_core import to_json

from schema.event import Door
from schema.instants import rfc3339

METRIC = TAG = "selftest"
EVENT_BYTES_MAX = 256  # Of one event as JSON; MAX_PAYLOAD_BYTES is never less.
ARRAY_MAX, BATCH_MAX = 20, 100
SINGLE_SHARE = 0.3  # Of the messages over MQTT; the others are arrays.
SINGLE_POSTS = 3  # Of each device: with their repeats they stay below the usual rate limit.
REPEATED_SHARE = 0.1  # Of all messages and posts: sent twice over the same door.
CROSSING_SHARE = 0.05  # Of the events of a door: sent over the other door, too.
STEP = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that must be stored exactly once. `door` is its own one; a copy may take the other."""

    device_id: str
    event_id: str
    door: Door
    value: int  # No other entry of the run has it: a sum tells what a count does not.
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
class Sending:
    """One message or one post: a single event as an object, several as an array."""

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
    """`sendings` are in the order of sending, the deliberate repeats among them."""

    device_ids: tuple[str, ...]
    entries: tuple[Entry, ...]
    sendings: tuple[Sending, ...]

    @property
    def start(self) -> datetime:
        """Events lie in [start, end)."""
        return self.entries[0].ts

    @property
    def end(self) -> datetime:
        return self.entries[-1].ts + STEP

    @property
    def copies(self) -> int:
        """How many events are sent more than once on purpose, each time counted."""
        return sum(len(sending.entries) for sending in self.sendings) - len(self.entries)

    def over(self, door: Door, device_id: str | None = None) -> list[Sending]:
        """Of a device if one is named: over MQTT each travels on the topic of its own."""
        return [
            sending
            for sending in self.sendings
            if sending.door is door and device_id in {None, sending.entries[0].device_id}
        ]


def make_plan(
    run: str, now: datetime, *, events: int, devices: int, seed: int, payload_bytes_max: int
) -> Plan:
    """`events` for each door, on `devices` that nobody used before; the seed decides the rest.

    1. The events are numbered. Their times end at `now`, a millisecond between two of them.
    2. Each device gets events of both doors, so that the two write about the same devices.
    3. They are cut into messages and posts of different sizes.
    4. Some are sent twice over their door, and some events over the other door, too.
    5. Everything is shuffled: events arrive out of order, and repeats before and after the original.
    """
    random = Random(seed)  # noqa: S311  # No secret.
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
    sendings: list[Sending] = []
    for door in Door:
        own = [entry for entry in entries if entry.door is door]
        other = [entry for entry in entries if entry.door is not door]
        planned = list(_cut(door, own, random, array_max))
        planned += random.sample(planned, _share(planned, REPEATED_SHARE))
        crossing = sorted(random.sample(other, _share(other, CROSSING_SHARE)), key=_by_number)
        sendings += [*planned, *_cut(door, crossing, random, array_max)]
    random.shuffle(sendings)
    return Plan(device_ids, entries, tuple(sendings))


def _cut(door: Door, entries: Sequence[Entry], random: Random, array_max: int) -> Iterator[Sending]:
    """Over MQTT a message has events of one device, over HTTP a batch has any."""
    by_device: dict[str, list[Entry]] = {}
    for entry in entries:
        by_device.setdefault(entry.device_id, []).append(entry)
    if door is Door.MQTT:
        for mine in by_device.values():
            yield from _pieces(door, mine, random, array_max, SINGLE_SHARE)
        return
    singles = {entry for mine in by_device.values() for entry in mine[:SINGLE_POSTS]}
    yield from (Sending(door, (entry,)) for entry in entries if entry in singles)
    batched = [entry for entry in entries if entry not in singles]
    yield from _pieces(door, batched, random, BATCH_MAX, 0)


def _pieces(
    door: Door, entries: Sequence[Entry], random: Random, size_max: int, single_share: float
) -> Iterator[Sending]:
    rest = list(entries)
    while rest:
        size = 1 if random.random() < single_share else random.randint(min(2, size_max), size_max)
        yield Sending(door, tuple(rest[:size]))
        del rest[:size]


def _share(things: Sequence[object], share: float) -> int:
    """At least one: a small run has its repeats, too."""
    return min(len(things), max(1, round(len(things) * share)))


def _by_number(entry: Entry) -> int:
    return entry.value
