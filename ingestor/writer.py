"""One of the two writers: it takes the waiting messages, writes them in one transaction and settles them.

`Writer._write` lists what happens to a batch that cannot be written.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from time import perf_counter
from typing import Self

import structlog
from prometheus_client import Histogram

from ingestor.batch import Batch, Item, Message, Part, Written
from ingestor.decode.acceptance import AcceptLimits, outside_window
from ingestor.decode.fast import FastDecoder
from ingestor.retry import StoreRetry
from ingestor.store.batch_builder import BatchBuilder, above_floor, inside_window
from ingestor.store.registry import Registry, StaleRegistryError
from ingestor.store.transaction import BelowFloorError, Store
from runtime.errors import BatchRefused, NoPartition
from runtime.metrics import EventCounts, Metrics
from schema.event import Door
from schema.instants import now_us

log = structlog.get_logger()


class _MisplacedError(Exception):
    """The batch holds times that are outside the accepted window by now. Used in this file only."""


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """A batch closes at `batch_events_max`, or when its first message has waited for `linger_s`.

    A message is never split over two batches, so a batch may hold up to 999 events more. Without linger
    a writer takes the waiting messages as soon as it is free.
    """

    decode: AcceptLimits
    batch_events_max: int = 2000
    linger_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchMetrics:
    """The metrics of one door, which both of its writers share."""

    counts: EventCounts
    seconds: Histogram
    events: Histogram

    @classmethod
    def of(cls, metrics: Metrics, door: Door) -> Self:
        return cls(
            metrics.events_of(door),
            metrics.batch_seconds.labels(door),
            metrics.batch_events.labels(door),
        )


class Writer:
    def __init__(
        self,
        store: Store,
        registry: Registry,
        limits: WriterLimits,
        retry: StoreRetry,
        metrics: BatchMetrics,
        settle: Callable[[Sequence[Part]], None],
    ) -> None:
        self._decode = FastDecoder(limits.decode).decode
        self._store, self._builder = store, BatchBuilder(registry)
        self._limits, self._retry = limits, retry
        self._metrics, self._settle = metrics, settle
        self._waiting: deque[Part] = deque()
        self._parts: list[Part] = []  # of the batch that is being written
        self._not_empty = asyncio.Event()

    def add(self, part: Part) -> None:
        self._waiting.append(part)
        self._not_empty.set()

    async def run(self) -> None:
        while True:
            await self._not_empty.wait()
            if (linger_s := self._linger_s()) > 0:
                await asyncio.sleep(linger_s)
            self._parts = self._take()
            began = perf_counter()
            batch = await self._builder.build(self._parts)
            self._metrics.events.observe(len(batch.rows) + len(batch.dead_letters))
            await self._write(batch)
            self._metrics.seconds.observe(perf_counter() - began)
            parts, self._parts = self._parts, []
            self._settle(parts)

    async def close(self) -> None:
        await self._store.close()

    def unsettled(self) -> Iterator[Message]:
        """The messages that wait here or are being written."""
        for part in chain(self._parts, self._waiting):
            yield part.message

    def decode(self, message: Message) -> list[Item]:
        if message.items is None:
            message.decoded(self._decode(message.payload, message.origin))
            self._metrics.counts.enter(message.events - 1)
        return message.items or []

    def _linger_s(self) -> float:
        """How long to wait for more messages, less the time that the oldest waited for the last batch."""
        if len(self._waiting) >= self._limits.batch_events_max:
            return 0.0
        waited_us = now_us() - self._waiting[0].message.origin.received_us
        return min(self._limits.linger_s, self._limits.linger_s - waited_us / 1e6)

    def _take(self) -> list[Part]:
        parts: list[Part] = []
        events = 0
        while self._waiting and events < self._limits.batch_events_max:
            part = self._waiting.popleft()
            events += len(self.decode(part.message)) or 1
            parts.append(part)
        if not self._waiting:
            self._not_empty.clear()
        return parts

    async def _write(self, batch: Batch) -> None:
        """Write and settle a batch. After a failure it is changed and written again.

        StoreUnavailable     not changed: `_retry` repeats it with backoff, nothing is acknowledged
        StaleRegistryError   devices or profiles changed: numbers and ranges are checked again
        BelowFloorError      retention dropped that time: events below the floor become dead letters
        _MisplacedError      our clock was wrong: events outside the window become dead letters
        BatchRefused         it is split until the bad row is alone, which becomes a dead letter
        """
        try:
            written = await self._retry(lambda: self._attempt(batch), by=self)
        except StaleRegistryError:
            await self._write(await self._builder.rebuild(batch))
        except BelowFloorError as error:
            await self._write(above_floor(batch, error.floor))
        except _MisplacedError:
            await self._write(inside_window(batch, datetime.now(UTC), self._limits.decode))
        except BatchRefused as refused:
            await self._write_in_pieces(batch, refused)
        else:
            batch.settle(written)

    async def _attempt(self, batch: Batch) -> Written:
        """A partition may be missing because our clock was wrong when the batch was decoded."""
        try:
            return await self._store.write(batch)
        except NoPartition:
            now, limits = datetime.now(UTC), self._limits.decode
            if any(outside_window(row.event.ts, now, limits) for row in batch.rows):
                raise _MisplacedError from None
            raise

    async def _write_in_pieces(self, batch: Batch, refused: BatchRefused) -> None:
        if len(batch.rows) > 1:
            for half in batch.halves(refused.row):
                await self._write(half)
            return
        log.error(
            "PostgreSQL refused an event permanently; it becomes a dead letter.", error=str(refused)
        )
        batch.to_dead_letter()
        await self._write(batch)
