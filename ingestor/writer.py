"""One of the two writers: takes what waits, writes it in one transaction, settles it.

Not now (StoreUnavailable): the same batch again, for as long as it takes; nothing is acknowledged.
Refused (BatchRefused): split until the bad row is alone, which becomes a dead letter.
Stale (the registry changed meanwhile): ranges and numbers are checked again with the new one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from ingestor.batch import Batch, DeadLetter, Item, Message, Part, Row
from ingestor.decode import Limits, decode, reject
from ingestor.patience import patiently
from ingestor.registry import Registry
from ingestor.store import StaleRegistryError, Store
from schema.errors import BatchRefused
from schema.event import Reason, Rejection
from schema.health import Health

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """A batch closes at `batch_events_max` or after `linger_s`.

    A message is never split over two batches, so up to 999 events more. Without linger a writer takes
    what waits as soon as it is free.
    """

    decode: Limits
    batch_events_max: int = 2000
    linger_s: float = 0.0


class Writer:
    def __init__(
        self,
        store: Store,
        registry: Registry,
        limits: WriterLimits,
        health: Health,
        settle: Callable[[Sequence[Part]], None],
    ) -> None:
        self._store, self._registry = store, registry
        self._limits, self._health = limits, health
        self._settle = settle
        self._waiting: deque[Part] = deque()
        self._came = asyncio.Event()

    def add(self, part: Part) -> None:
        self._waiting.append(part)
        self._came.set()

    async def run(self) -> None:
        while True:
            await self._came.wait()
            if self._limits.linger_s and len(self._waiting) < self._limits.batch_events_max:
                await asyncio.sleep(self._limits.linger_s)
            parts = self._take()
            await self._write(await self._assemble(parts))
            self._settle(parts)

    async def close(self) -> None:
        await self._store.close()

    def decode(self, message: Message) -> list[Item]:
        if message.items is None:
            message.decoded(decode(message.payload, message.origin, self._limits.decode))
        return message.items or []

    def _take(self) -> list[Part]:
        parts, events = [], 0
        while self._waiting and events < self._limits.batch_events_max:
            part = self._waiting.popleft()
            events += len(self.decode(part.message)) or 1
            parts.append(part)
        if not self._waiting:
            self._came.clear()
        return parts

    async def _assemble(self, parts: Sequence[Part]) -> Batch:
        await self._relearn(name for part in parts for name in part.numbers)
        batch = Batch()
        for order, part in enumerate(parts):
            message, items = part.message, part.message.items or []
            for index in part.indexes if part.indexes is not None else range(len(items)):
                self._place(batch, items[index], part, index, order)
            if message.sign is not None:
                for device_no in part.numbers.values():
                    batch.sign(device_no, message.sign)
        return batch

    def _place(self, batch: Batch, item: Item, part: Part, index: int, order: int) -> None:
        message = part.message
        if isinstance(item, Rejection):
            batch.dead_letters.append(DeadLetter(item, message, index))
        elif (fault := self._registry.fault(item)) is not None:
            rejection = reject(item, message.payload, Reason.OUT_OF_RANGE, fault)
            batch.dead_letters.append(DeadLetter(rejection, message, index))
        else:
            batch.rows.append(Row(part.numbers[item.device_id], item, message, index, order))

    async def _relearn(self, device_ids: Iterable[str]) -> None:
        """The cache may have started anew since the message was dispatched."""
        missing = {name for name in device_ids if name not in self._registry.devices}
        if missing:
            await self._registry.learn(missing)

    async def _write(self, batch: Batch) -> None:
        try:
            new = await patiently(self._health, lambda: self._store.write(batch))
        except StaleRegistryError:
            await self._write(await self._rechecked(batch))
        except BatchRefused as refused:
            await self._write_in_pieces(batch, refused)
        else:
            batch.settle(new)

    async def _rechecked(self, batch: Batch) -> Batch:
        """The same batch with the numbers and ranges of today."""
        names = {row.event.device_id for row in batch.rows}
        await self._registry.learn(names)
        if forgotten := names - self._registry.devices.keys():
            await self._registry.add(forgotten)
        fresh = Batch([], batch.dead_letters, batch.signs, batch.receipts)
        for row in batch.rows:
            number = self._registry.devices[row.event.device_id].device_no
            part = Part(row.message, {row.event.device_id: number})
            self._place(fresh, row.event, part, row.place, row.order)
        return fresh

    async def _write_in_pieces(self, batch: Batch, refused: BatchRefused) -> None:
        if len(batch.rows) > 1:
            for half in batch.halves(refused.row):
                await self._write(half)
            return
        log.error(
            "PostgreSQL refused an event for good: it becomes a dead letter.", error=str(refused)
        )
        batch.bury(str(refused))
        await self._write(batch)
