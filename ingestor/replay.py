"""Replay: dead letters go through the pipeline again and are checked by the present profiles and limits.

1. read      a page of dead letters, oldest first
2. decode    as at their door, with their original time of arrival
3. submit    through a pipeline, together with live messages
4. mark      the dead letters of which no item was refused again

A replay may stop anywhere, be repeated, or run twice at once: the key of an event stays the same, so an
event that is already stored is a duplicate. An item that is refused again keeps its dead letter.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ingestor.batch import Item, Message
from ingestor.decode.acceptance import AcceptLimits, Fault, Origin, outside_window
from ingestor.decode.strict import Items, decode, decode_item, reject
from ingestor.decode.wall_clock import nearest_us
from ingestor.pipeline import Pipeline
from ingestor.verdicts import count_verdicts
from runtime.metrics import EventCounts
from schema.database import Connection
from schema.event import Door, Event, Reason, Rejection, Status
from schema.instants import epoch_us, from_epoch_us
from schema.queries import load_queries

PAGE_DEAD_LETTERS_MAX = 200  # They are settled together and share batches.
PAGE_BYTES_MAX = 2 * 1024 * 1024  # A longer dead letter gets a page of its own.

queries = load_queries("ingestor", "replay.sql")
READ_DEAD_LETTERS = queries.read_dead_letters.format(selected=queries.selected_dead_letters)
COUNT_DEAD_LETTERS = queries.count_dead_letters.format(selected=queries.selected_dead_letters)


@dataclass(frozen=True, slots=True)
class ReplaySelection:
    """The dead letters that match every given field and are numbered above `after`, up to `last`.

    Without `ids`, those that were replayed before or hold only part of their payload are left out.
    """

    ids: Sequence[int] | None = None
    device_id: str | None = None
    reason: Reason | None = None
    door: Door | None = None
    start: datetime | None = None  # of the time of arrival: [start, end)
    end: datetime | None = None
    after: int = 0
    last: int | None = None

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The values of $1 to $8 of selected_dead_letters (replay.sql), in this order."""
        return (
            self.after, self.ids, self.device_id, self.reason, self.door, self.start, self.end,
            self.last,
        )  # fmt: skip


@dataclass(slots=True)
class ReplayOutcome:
    """The sum of replayed pages. `counts` has the verdicts on their events.

    `next` is the `after` of the remaining dead letters, None at the end.
    """

    dead_letters: int = 0
    counts: EventCounts = field(default_factory=EventCounts)
    next: int | None = None

    def add(self, messages: Sequence[Message]) -> None:
        self.dead_letters += len(messages)
        for message in messages:
            count_verdicts(self.counts, message.verdicts)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of `rejected`; `item` is its index in the array that it arrived in, if it was one."""

    number: int
    received_at: datetime
    door: Door
    device_id: str | None
    reason: Reason
    item: int | None
    payload: bytes

    @property
    def origin(self) -> Origin:
        """It stays of the device that it was of, so that no replay stores it as another's; and retained."""
        return Origin(
            epoch_us(self.received_at),
            self.device_id,
            self.reason is Reason.NO_IDENTITY,
            replay_of=self.number,
        )


async def count_dead_letters(
    connection: Connection, selection: ReplaySelection
) -> tuple[Counter[Reason], int]:
    """The number of selected dead letters per reason, and the number of the newest one."""
    rows = await connection.fetch(COUNT_DEAD_LETTERS, *selection.parameters)
    counts = Counter({Reason(row["reason"]): row["dead_letters"] for row in rows})
    return counts, max((row["newest"] for row in rows), default=0)


class Replay:
    """Replays pages on a connection that nobody else uses meanwhile."""

    def __init__(self, connection: Connection, pipeline: Pipeline, limits: AcceptLimits) -> None:
        self._connection, self._pipeline = connection, pipeline
        self._limits = limits

    async def page(
        self,
        selection: ReplaySelection,
        outcome: ReplayOutcome,
        dead_letters_max: int = PAGE_DEAD_LETTERS_MAX,
    ) -> None:
        """Replay the first dead letters of a selection; after the commit they are added to `outcome`.

        Once they are submitted, writes are retried until they succeed. Raises Overloaded, or the error of
        the connection: the same page may then be replayed again.
        """
        dead_letters, more = await self._read(
            selection, min(dead_letters_max, PAGE_DEAD_LETTERS_MAX)
        )
        await self._pipeline.refresh()
        now = datetime.now(UTC)
        settled = [self._submit(dead_letter, now) for dead_letter in dead_letters]
        messages = await asyncio.gather(*settled)
        await self._mark(messages)
        outcome.add(messages)
        outcome.next = dead_letters[-1].number if more else None

    async def _read(
        self, selection: ReplaySelection, dead_letters_max: int
    ) -> tuple[list[DeadLetter], bool]:
        rows = await self._connection.fetch(
            READ_DEAD_LETTERS, *selection.parameters, dead_letters_max, PAGE_BYTES_MAX
        )
        dead_letters = [
            DeadLetter(
                row["rejected_id"], row["received_at"], Door(row["door"]), row["device_id"],
                Reason(row["reason"]), row["item"], row["payload"],
            )
            for row in rows
        ]  # fmt: skip
        return dead_letters, bool(rows) and rows[0]["found"] > len(rows)

    def _submit(self, dead_letter: DeadLetter, now: datetime) -> "asyncio.Future[Message]":
        settled: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def done(message: Message) -> None:
            if not settled.done():  # The caller may have given up; the events are stored anyway.
                settled.set_result(message)

        message = Message(dead_letter.door, dead_letter.payload, dead_letter.origin, done)
        message.decoded(list(decode_again(dead_letter, self._limits, now)))
        self._pipeline.accept(message)
        return settled

    async def _mark(self, messages: Sequence[Message]) -> None:
        accepted = [
            message.origin.replay_of
            for message in messages
            if all(verdict.status is not Status.REJECTED for verdict in message.verdicts)
        ]
        if accepted:
            await self._connection.execute(queries.mark_replayed, accepted)


def decode_again(dead_letter: DeadLetter, limits: AcceptLimits, now: datetime) -> Iterator[Item]:
    """The items of a dead letter, decoded by the present limits.

    Their times must be in the accepted window of the original arrival and in that of `now`: outside it
    there may be no partition for the event.
    """
    source = Items(dead_letter.payload)
    for item in _decoded(dead_letter, limits):
        fault = _outside_window(item, now, limits) if isinstance(item, Event) else None
        if isinstance(item, Event) and fault is not None:
            yield reject(item, source, *fault)
        else:
            yield item


def _outside_window(event: Event, now: datetime, limits: AcceptLimits) -> Fault | None:
    """A time without offset is outside if it is so in every zone; the registry knows the zone."""
    if event.wall_us is None:
        return outside_window(event.ts, now, limits)
    return outside_window(from_epoch_us(nearest_us(event.wall_us, epoch_us(now))), now, limits)


def _decoded(dead_letter: DeadLetter, limits: AcceptLimits) -> list[Item]:
    if dead_letter.reason is Reason.TOO_LARGE:
        return [_refused(dead_letter, Reason.TOO_LARGE, "only its first bytes were kept")]
    if dead_letter.reason is Reason.BAD_STATUS:
        return [_refused(dead_letter, Reason.BAD_STATUS, "a status of the past is not replayed")]
    # The door has checked the size; only it can tell a batch from a single event.
    sized = replace(limits, payload_bytes_max=len(dead_letter.payload))
    if dead_letter.item is not None:
        return [decode_item(dead_letter.payload, dead_letter.origin, sized)]
    return decode(dead_letter.payload, dead_letter.origin, sized)


def _refused(dead_letter: DeadLetter, reason: Reason, detail: str) -> Rejection:
    """A rejection without payload, because the dead letter that stays has it."""
    return Rejection(reason, detail, b"", dead_letter.received_at, dead_letter.device_id)
