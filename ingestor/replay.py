"""Dead letters back through the pipeline: what was refused is judged once more, by the rules of today.

1. read      a page of letters, oldest first
2. decode    as at their door, with their first time of arrival
3. submit    through a pipeline, beside what arrives meanwhile
4. mark      the letters of which nothing was refused again

It may stop anywhere and be repeated, also twice at once: every event has a key that stays the same, so
what is stored already is a duplicate. What is refused again keeps the dead letter that it has.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ingestor.batch import Item, Message
from ingestor.decode.acceptance import AcceptLimits, Origin, outside_window
from ingestor.decode.strict import Items, decode, decode_item, reject
from ingestor.pipeline import Pipeline
from schema.database import Connection
from schema.event import Door, Event, Reason, Rejection, Status
from schema.instants import epoch_us
from schema.queries import load_queries

PAGE_LETTERS_MAX = 200  # They wait together for one answer, and share batches.
PAGE_BYTES_MAX = 2 * 1024 * 1024  # A longer letter comes alone.

queries = load_queries("ingestor", "replay.sql")


@dataclass(frozen=True, slots=True)
class ReplaySelection:
    """Which letters: those that fit everything given, numbered above `after` and up to `last`.

    Without `ids` only those that were not replayed yet and hold their whole payload.
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
        """In the order that read_dead_letters and count_dead_letters want."""
        return (
            self.after, self.ids, self.device_id, self.reason, self.door, self.start, self.end,
            self.last,
        )  # fmt: skip


@dataclass(slots=True)
class ReplayOutcome:
    """What became of letters, counted in events. `next` is the `after` of the rest, None at the end."""

    letters: int = 0
    stored: int = 0
    duplicate: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)  # of the rejected
    next: int | None = None

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    def add(self, page: "ReplayOutcome") -> None:
        self.letters += page.letters
        self.stored += page.stored
        self.duplicate += page.duplicate
        self.reasons += page.reasons
        self.next = page.next


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of `rejected`; `item` is its index where it came in an array."""

    number: int
    received_at: datetime
    door: Door
    device_id: str | None
    reason: Reason
    item: int | None
    payload: bytes

    @property
    def origin(self) -> Origin:
        """Over MQTT the topic names the device, over HTTP the body. Retained stays retained."""
        device_id = self.device_id if self.door is Door.MQTT else None
        return Origin(
            epoch_us(self.received_at),
            device_id,
            self.reason is Reason.NO_IDENTITY,
            replay_of=self.number,
        )


async def count_dead_letters(
    connection: Connection, selection: ReplaySelection
) -> tuple[Counter[Reason], int]:
    """How many there are per reason, and the number of the newest."""
    rows = await connection.fetch(queries.count_dead_letters, *selection.parameters)
    counts = Counter({Reason(row["reason"]): row["letters"] for row in rows})
    return counts, max((row["newest"] for row in rows), default=0)


class Replay:
    """Works on a connection of its own, which must not be shared meanwhile."""

    def __init__(self, connection: Connection, pipeline: Pipeline, limits: AcceptLimits) -> None:
        self._connection, self._pipeline = connection, pipeline
        self._limits = limits

    async def page(
        self, selection: ReplaySelection, letters_max: int = PAGE_LETTERS_MAX
    ) -> ReplayOutcome:
        """Replay the first letters of a selection; returns after the commit.

        Waits for the database as long as it takes once they are submitted. Raises Overloaded, or what
        the connection raises: then the same page again.
        """
        letters, more = await self._read(selection, min(letters_max, PAGE_LETTERS_MAX))
        await self._pipeline.refresh()
        now = datetime.now(UTC)
        settled = [self._submit(letter, now) for letter in letters]
        messages = await asyncio.gather(*settled)
        await self._mark(messages)
        outcome = _counted(messages)
        outcome.next = letters[-1].number if more else None
        return outcome

    async def _read(
        self, selection: ReplaySelection, letters_max: int
    ) -> tuple[list[DeadLetter], bool]:
        rows = await self._connection.fetch(
            queries.read_dead_letters, *selection.parameters, letters_max, PAGE_BYTES_MAX
        )
        letters = [
            DeadLetter(
                row["rejected_id"], row["received_at"], Door(row["door"]), row["device_id"],
                Reason(row["reason"]), row["item"], row["payload"],
            )
            for row in rows
        ]  # fmt: skip
        return letters, bool(rows) and rows[0]["found"] > len(rows)

    def _submit(self, letter: DeadLetter, now: datetime) -> "asyncio.Future[Message]":
        settled: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def done(message: Message) -> None:
            if not settled.done():  # Nobody may wait any more; the events stay.
                settled.set_result(message)

        message = Message(letter.door, letter.payload, letter.origin, done)
        message.decoded(list(decode_again(letter, self._limits, now)))
        self._pipeline.accept(message)
        return settled

    async def _mark(self, messages: Sequence[Message]) -> None:
        clean = [
            message.origin.replay_of
            for message in messages
            if all(verdict.status is not Status.REJECTED for verdict in message.verdicts)
        ]
        if clean:
            await self._connection.execute(queries.mark_replayed, clean)


def decode_again(letter: DeadLetter, limits: AcceptLimits, now: datetime) -> Iterator[Item]:
    """The items of a letter, with what can be said against them today.

    Their times are judged against the first arrival, and against today, too: there are no tables for an
    event from outside the window of today.
    """
    source = Items(letter.payload)
    for item in _decoded(letter, limits):
        fault = outside_window(item.ts, now, limits) if isinstance(item, Event) else None
        if isinstance(item, Event) and fault is not None:
            yield reject(item, source, *fault)
        else:
            yield item


def _decoded(letter: DeadLetter, limits: AcceptLimits) -> list[Item]:
    if letter.reason is Reason.TOO_LARGE:
        return [_refused(letter, Reason.TOO_LARGE, "only its first bytes were kept")]
    # Its size was judged at the door, which knows a batch from a single event.
    sized = replace(limits, payload_bytes_max=len(letter.payload))
    if letter.item is not None:
        return [decode_item(letter.payload, letter.origin, sized)]
    return decode(letter.payload, letter.origin, sized)


def _refused(letter: DeadLetter, reason: Reason, detail: str) -> Rejection:
    """Without payload: the letter that stays has it."""
    return Rejection(reason, detail, b"", letter.received_at, letter.device_id)


def _counted(messages: Sequence[Message]) -> ReplayOutcome:
    outcome = ReplayOutcome(letters=len(messages))
    for verdict in (verdict for message in messages for verdict in message.verdicts):
        if verdict.status is Status.STORED:
            outcome.stored += 1
        elif verdict.status is Status.DUPLICATE:
            outcome.duplicate += 1
        elif verdict.reason is not None:
            outcome.reasons[verdict.reason] += 1
    return outcome
