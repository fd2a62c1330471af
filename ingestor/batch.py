"""Messages that wait for the database, their parts, and the batch of one transaction. Pure state."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ingestor.decode.acceptance import Origin
from ingestor.decode.presence import PresenceSignal, PresenceUpdate, merge
from ingestor.decode.strict import Items, reject
from schema.event import (
    DUPLICATE,
    REJECTED,
    STORED,
    DeviceNo,
    Door,
    DuplicateReason,
    Event,
    Reason,
    Rejection,
    Verdict,
)
from schema.locks import lane

Item = Event | Rejection

# How often the registry cache has expired, and the registry_version of the database that it holds.
RegistryVersion = tuple[int, int]
REFUSED = "the database can never store it; the log says why"
UNCHECKED: RegistryVersion = (-1, -1)


class Message(msgspec.Struct, eq=False):
    """One MQTT message or HTTP post. `done` is called once, after all its items are committed."""

    door: Door
    payload: bytes
    origin: Origin
    done: Callable[["Message"], None]
    signal: PresenceSignal | None = None
    ticket: object = None  # what the door needs to acknowledge the message
    items: list[Item] | None = None  # None: not decoded yet
    verdicts: list[Verdict] = []
    open_parts: int = 0
    _source: Items | None = None

    @property
    def source(self) -> Items:
        """The source of its dead letters; an array is parsed once, however many there are."""
        if self._source is None:
            self._source = Items(self.payload)
        return self._source

    @property
    def devices(self) -> set[str]:
        """The device of the topic; an HTTP post has no topic, so the devices that its items name."""
        if self.origin.device_id is not None:
            return {self.origin.device_id}
        return {item.device_id for item in self.items or () if item.device_id is not None}

    @property
    def events(self) -> int:
        """The number of items; 1 until the payload is decoded."""
        return 1 if self.items is None else len(self.items)

    def decoded(self, items: list[Item]) -> None:
        self.items = items
        self.verdicts = [_PENDING] * len(items)

    def part_done(self) -> bool:
        """Count one part as committed. Returns whether it was the last: then `done` was called."""
        self.open_parts -= 1
        if self.open_parts == 0:
            self.done(self)
        return self.open_parts == 0


_PENDING = Verdict(None, REJECTED)


class Part(msgspec.Struct, eq=False, gc=False):
    """The items of a message that go to one writer; all of them if `indexes` is None."""

    message: Message
    numbers: Mapping[
        str, DeviceNo
    ]  # by device_id; an unknown device without a valid event has none
    indexes: Sequence[int] | None = None


def parts_of(
    message: Message, numbers: Mapping[str, DeviceNo], writers: int
) -> Iterator[tuple[int, Part]]:
    """Each writer that gets items of the message, and what it gets: a device's items stay together."""
    wanted = {number % writers for number in numbers.values()}
    if len(wanted) <= 1:
        yield wanted.pop() if wanted else 0, Part(message, numbers)
        return
    for n, indexes in _split(message, numbers, writers).items():
        own = {name: number for name, number in numbers.items() if number % writers == n}
        yield n, Part(message, own, indexes)


def _split(message: Message, numbers: Mapping[str, DeviceNo], writers: int) -> dict[int, list[int]]:
    """The item indexes per writer; items of unknown devices, or of none, go to the first."""
    indexes: dict[int, list[int]] = defaultdict(list)
    for index, item in enumerate(message.items or ()):
        number = 0 if item.device_id is None else numbers.get(item.device_id, 0)
        indexes[number % writers].append(index)
    return indexes


class Row(msgspec.Struct, eq=False, gc=False):
    """One event to be written; `order` is the place of its message in the batch."""

    device_no: DeviceNo
    event: Event
    message: Message
    place: int  # its index among the message's items
    order: int


class RejectedItem(NamedTuple):
    """`event` is set if the registry refused it: it is checked again with a new profile or time zone."""

    rejection: Rejection
    message: Message
    place: int
    order: int = 0
    event: Event | None = None

    @property
    def is_new(self) -> bool:
        """False for a replayed item that is refused again: it has its dead letter already."""
        return self.message.origin.replay_of is None


class Written(NamedTuple):
    """What a transaction found: the keys that were new, and the places in the batch of reused event ids."""

    new: set[tuple[int, str]]
    reused: frozenset[int] = frozenset()


@dataclass(slots=True)
class Batch:
    """What one transaction writes: events in order of arrival, dead letters, presence updates."""

    rows: list[Row] = field(default_factory=list)
    dead_letters: list[RejectedItem] = field(default_factory=list)
    presence: dict[DeviceNo, PresenceUpdate] = field(default_factory=dict)
    receipts: dict[DeviceNo, bool] = field(default_factory=dict)
    device_ids: dict[DeviceNo, str] = field(default_factory=dict)  # of the devices in `presence`
    registry_version: RegistryVersion = UNCHECKED
    # While the outcome of a commit is unknown: what it would have written.
    in_doubt: Written | None = None

    @property
    def lanes(self) -> list[int]:
        numbers = {lane(row.device_no) for row in self.rows}
        return sorted(numbers.union(lane(device_no) for device_no in self.presence))

    def add_signal(self, device_no: DeviceNo, device_id: str, signal: PresenceSignal) -> None:
        self.device_ids[device_no] = device_id
        self.presence[device_no] = merge(self.presence.get(device_no), signal)
        if signal.receipts is not None:
            self.receipts[device_no] = signal.receipts

    def first_rows(self) -> dict[tuple[DeviceNo, str], Row]:
        """The first row of each key, sorted by key: the order in which keys and events are written."""
        keys = [(row.device_no, row.event.event_id) for row in self.rows]
        first = dict(zip(reversed(keys), reversed(self.rows), strict=True))
        return {key: first[key] for key in sorted(first)}

    def halves(self, suspect: int | None) -> Iterator["Batch"]:
        """Smaller batches; the suspected row is alone in one. The first one gets everything else."""
        middle = len(self.rows) // 2
        cuts = [middle] if suspect is None else [suspect, suspect + 1]
        edges = [0, *cuts, len(self.rows)]
        rest = self
        for start, stop in pairwise(edges):
            if start < stop:
                yield replace(rest, rows=self.rows[start:stop])
                rest = Batch(registry_version=self.registry_version)

    def to_dead_letter(self) -> None:
        """Turn the only row into a dead letter; the log says what the database said."""
        row = self.rows.pop()
        rejection = reject(row.event, row.message.source, Reason.REFUSED_BY_DATABASE, REFUSED)
        self.dead_letters.append(RejectedItem(rejection, row.message, row.place))

    def repeats(self, new_keys: set[tuple[int, str]]) -> Iterator[int]:
        """The places of the rows that are not stored; of rows with equal keys the first is."""
        unclaimed = set(new_keys)
        for place, row in enumerate(self.rows):
            key = (row.device_no, row.event.event_id)
            if key in unclaimed:
                unclaimed.discard(key)
            else:
                yield place

    def settle(self, written: Written) -> None:
        """Give every item its verdict."""
        for row in self.rows:
            row.message.verdicts[row.place] = Verdict(row.event.event_id, STORED)
        if len(written.new) < len(self.rows):
            self._settle_repeats(written)
        for rejection, message, place, *_ in self.dead_letters:
            message.verdicts[place] = Verdict(
                rejection.event_id, REJECTED, rejection.reason, rejection.detail
            )

    def _settle_repeats(self, written: Written) -> None:
        for place in self.repeats(written.new):
            row = self.rows[place]
            reason = DuplicateReason.OTHER_CONTENT if place in written.reused else None
            row.message.verdicts[row.place] = Verdict(row.event.event_id, DUPLICATE, reason)


def in_order_of_evaluation(rows: Iterable[Row]) -> list[Row]:
    """Sort by arrival of the message, then (timestamp, event_id): shuffling an array changes no alert."""
    return sorted(rows, key=lambda row: (row.order, row.event.ts_us, row.event.event_id))
