"""What waits for the database: messages, their parts, and the batch of one transaction. Pure state."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ingestor.decode.acceptance import Origin
from ingestor.decode.presence import PresenceSignal, PresenceUpdate, fold
from ingestor.decode.strict import Items, reject
from schema.event import DeviceNo, Door, Event, Reason, Rejection, Status, Verdict
from schema.locks import lane

Item = Event | Rejection

# Of the registry: how often it had to start anew, and the version of the database that it holds.
RegistryVersion = tuple[int, int]
UNCHECKED: RegistryVersion = (-1, -1)


class Message(msgspec.Struct, eq=False):
    """One MQTT message or HTTP post. `done` is called once, after everything in it is committed."""

    door: Door
    payload: bytes
    origin: Origin
    done: Callable[["Message"], None]
    sign: PresenceSignal | None = None
    ticket: object = None  # what the door needs to acknowledge it
    items: list[Item] | None = None  # None: not decoded yet
    verdicts: list[Verdict] = []
    open_parts: int = 0
    _source: Items | None = None

    @property
    def source(self) -> Items:
        """What its dead letters are taken from; of an array parsed once, however many there are."""
        if self._source is None:
            self._source = Items(self.payload)
        return self._source

    @property
    def devices(self) -> set[str]:
        """The topic's device; of an HTTP post, which has no topic, those that its items name."""
        if self.origin.device_id is not None:
            return {self.origin.device_id}
        return {item.device_id for item in self.items or () if item.device_id is not None}

    @property
    def events(self) -> int:
        """How many it holds; 1 as long as nobody has looked."""
        return 1 if self.items is None else len(self.items)

    def decoded(self, items: list[Item]) -> None:
        self.items = items
        self.verdicts = [_PENDING] * len(items)

    def part_done(self) -> bool:
        """Whether that was the last part: then the door has been told."""
        self.open_parts -= 1
        if self.open_parts == 0:
            self.done(self)
        return self.open_parts == 0


_PENDING = Verdict(None, Status.REJECTED)


class Part(msgspec.Struct, eq=False, gc=False):
    """The items of a message that go to one writer; `indexes` None: all of them."""

    message: Message
    numbers: Mapping[str, DeviceNo]  # by device_id; without entry: a stranger with nothing valid
    indexes: Sequence[int] | None = None


class Row(msgspec.Struct, eq=False, gc=False):
    """One event on its way; `order` is its message's place in the batch."""

    device_no: DeviceNo
    event: Event
    message: Message
    place: int  # its index among the message's items
    order: int


class RejectedItem(NamedTuple):
    """`event` is what its device's profile refused: with another profile it is judged again."""

    rejection: Rejection
    message: Message
    place: int
    order: int = 0
    event: Event | None = None

    @property
    def is_new(self) -> bool:
        """What is refused again when it is replayed has its dead letter already."""
        return self.message.origin.replay_of is None


@dataclass(slots=True)
class Batch:
    """What one transaction writes: events in order of arrival, dead letters, signs of life."""

    rows: list[Row] = field(default_factory=list)
    dead_letters: list[RejectedItem] = field(default_factory=list)
    signs: dict[DeviceNo, PresenceUpdate] = field(default_factory=dict)
    receipts: dict[DeviceNo, bool] = field(default_factory=dict)
    names: dict[DeviceNo, str] = field(default_factory=dict)  # of the devices that gave a sign
    edition: RegistryVersion = UNCHECKED
    # Set while a commit's answer is missing: the keys that it would have stored as new.
    in_doubt: set[tuple[int, str]] | None = None

    @property
    def lanes(self) -> list[int]:
        numbers = {lane(row.device_no) for row in self.rows}
        return sorted(numbers.union(lane(device_no) for device_no in self.signs))

    def sign(self, device_no: DeviceNo, name: str, sign: PresenceSignal) -> None:
        self.names[device_no] = name
        self.signs[device_no] = fold(self.signs.get(device_no), sign)
        if sign.receipts is not None:
            self.receipts[device_no] = sign.receipts

    def first_rows(self) -> dict[tuple[DeviceNo, str], Row]:
        """The rows by key, the first of equal ones, sorted: the order of keys and of events."""
        keys = [(row.device_no, row.event.event_id) for row in self.rows]
        first = dict(zip(reversed(keys), reversed(self.rows), strict=True))
        return {key: first[key] for key in sorted(first)}

    def halves(self, suspect: int | None) -> Iterator["Batch"]:
        """Smaller batches, one of them with the suspected row alone. Dead letters go with the first."""
        middle = len(self.rows) // 2
        cuts = [middle] if suspect is None else [suspect, suspect + 1]
        edges = [0, *cuts, len(self.rows)]
        rest = self
        for start, stop in pairwise(edges):
            if start < stop:
                yield replace(rest, rows=self.rows[start:stop])
                rest = Batch(edition=self.edition)

    def bury(self, detail: str) -> None:
        """Turn the only row into a dead letter."""
        row = self.rows.pop()
        rejection = reject(row.event, row.message.source, Reason.REFUSED_BY_DATABASE, detail)
        self.dead_letters.append(RejectedItem(rejection, row.message, row.place))

    def settle(self, new_keys: set[tuple[int, str]]) -> None:
        """Give every item its verdict; the first of equal keys is the stored one."""
        if len(new_keys) == len(self.rows):
            for row in self.rows:
                row.message.verdicts[row.place] = Verdict(row.event.event_id, Status.STORED)
        else:
            self._settle_rows(set(new_keys))
        for rejection, message, place, *_ in self.dead_letters:
            message.verdicts[place] = Verdict(
                rejection.event_id, Status.REJECTED, rejection.reason, rejection.detail
            )

    def _settle_rows(self, unclaimed: set[tuple[int, str]]) -> None:
        for row in self.rows:
            key = (row.device_no, row.event.event_id)
            status = Status.STORED if key in unclaimed else Status.DUPLICATE
            unclaimed.discard(key)
            row.message.verdicts[row.place] = Verdict(row.event.event_id, status)


def in_order_of_evaluation(rows: Iterable[Row]) -> list[Row]:
    """Messages as they arrived; within one, by (timestamp, event_id): a shuffled array is as live."""
    return sorted(rows, key=lambda row: (row.order, row.event.ts_us, row.event.event_id))
