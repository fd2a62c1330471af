"""From message to acknowledgement: the one pipeline behind both doors. Read this file first.

accept      a message arrives (MQTT delivery or HTTP post) and waits; its door bounds how many wait
resolve     its devices get their numbers; unknown devices with a valid event are registered
dispatch    it goes to the writer of its device, by even or odd number, so each device stays in order;
            single posts, which have no order, share the first writer
write       ingestor/writer.py decodes, checks and stores a batch in one transaction
settle      every item has its verdict, and only then the door acknowledges or responds
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Self

from ingestor.batch import Message, Part, parts_of
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.presence import TELEMETRY
from ingestor.decode.strict import Items
from ingestor.retry import StoreRetry
from ingestor.store.registry import Device, Registry
from ingestor.store.transaction import Store
from ingestor.verdicts import count_verdicts
from ingestor.writer import BatchMetrics, Writer, WriterLimits
from runtime.errors import Overloaded
from runtime.health import Health
from runtime.metrics import REPLAY, EventCounts, Metrics
from runtime.settings import Settings
from schema.event import Door, Event, Rejection, Verdict

WRITERS = 2

_NOWHERE = Origin(0)
_MARKER = object()  # The ticket of an empty message that goes through every writer (`flushed`).


class Pipeline:
    """Takes everything that arrives at one door of this process.

    At most `waiting_max` messages and `waiting_bytes_max` of payload wait; beyond that `accept` raises
    Overloaded. None: the door itself is bounded.
    """

    def __init__(
        self,
        dsn: str,
        limits: WriterLimits,
        *,
        name: str,
        default_profile: str,
        offline_after_s: int,
        door: Door,
        health: Health,
        metrics: Metrics,
        waiting_max: int | None = None,
        waiting_bytes_max: int | None = None,
    ) -> None:
        self._door = door
        self.counts, self._replayed = metrics.events_of(door), metrics.events_of(REPLAY)
        self._waiting_bytes, self._waiting_bytes_max = 0, waiting_bytes_max
        self._waiting, self._waiting_max = 0, waiting_max
        self._idle = asyncio.Event()
        self._idle.set()
        self._unresolved: list[Message] = []
        self._resolving: list[Message] = []
        self._unresolved_devices: Counter[str] = Counter()
        self._resolve_wanted = asyncio.Event()
        retry = StoreRetry(health)
        self._registry = Registry(dsn, name, default_profile, limits.decode, retry)
        self._writers = [
            Writer(
                Store(dsn, self._registry, name=f"{name} {n}", offline_after_s=offline_after_s),
                self._registry,
                limits,
                retry,
                BatchMetrics.of(metrics, door),
                self._settle,
            )
            for n in range(WRITERS)
        ]

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        name: str,
        door: Door,
        health: Health,
        metrics: Metrics,
        linger_s: float = 0.0,
        waiting_max: int | None = None,
        waiting_bytes_max: int | None = None,
    ) -> Self:
        """The pipeline for these settings; `name` shows in pg_stat_activity."""
        return cls(
            settings.dsn,
            WriterLimits(AcceptLimits.of(settings), linger_s=linger_s),
            name=name,
            default_profile=settings.default_profile,
            offline_after_s=settings.offline_after_seconds,
            door=door,
            health=health,
            metrics=metrics,
            waiting_max=waiting_max,
            waiting_bytes_max=waiting_bytes_max,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set and everything accepted is settled. Cancelling ends it at once."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(writer.run()) for writer in self._writers]
                tasks.append(group.create_task(self._resolve()))
                await stop.wait()
                await self._idle.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._registry.close()
            for writer in self._writers:
                await writer.close()

    def accept(self, message: Message) -> None:
        """Accept a message. Raises Overloaded when too many messages or bytes wait already."""
        if self._waiting_max is not None and self._waiting >= self._waiting_max:
            raise Overloaded("Too many posts are waiting for the database: retry later.")
        waiting_bytes = self._waiting_bytes + len(message.payload)
        if self._waiting_bytes_max is not None and waiting_bytes > self._waiting_bytes_max:
            raise Overloaded("Too much data is waiting for the database: retry later.")
        self._waiting_bytes = waiting_bytes
        self._waiting += 1
        self._idle.clear()
        self._counts_of(message).enter(message.events)
        device_id = message.origin.device_id
        if device_id is not None and device_id not in self._unresolved_devices:
            device = self._registry.devices.get(device_id)
            if device is not None:
                self._dispatch_whole(message, device)
                return
        elif device_id is None and all(map(self._known, message.devices)):
            self._dispatch(message)
            return
        self._unresolved.append(message)
        self._unresolved_devices.update(message.devices)
        self._resolve_wanted.set()

    def submit(
        self,
        payload: bytes,
        origin: Origin,
        items: list[Event | Rejection],
        source: Items | None = None,
    ) -> "asyncio.Future[list[Verdict]]":
        """Accept the items of an HTTP post. The future has the verdicts after the commit.

        `source` has the texts of the items, if it is not to be found in `payload`. Raises Overloaded.
        """
        verdicts: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()

        def done(message: Message) -> None:
            if not verdicts.done():  # The caller may have given up; the events are stored anyway.
                verdicts.set_result(message.verdicts)

        message = Message(self._door, payload, origin, done, signal=TELEMETRY, _source=source)
        message.decoded(items)
        self.accept(message)
        return verdicts

    async def refresh(self) -> None:
        """Read the current devices and profiles, before refused events are tried again."""
        await self._registry.load(())

    def wants_receipts(self, device_id: str) -> bool:
        """Whether receipts are switched on for the device or its profile."""
        device = self._registry.devices.get(device_id)
        return device is not None and (device.receipts or device.profile.receipts)

    async def flushed(self) -> None:
        """Return when everything that was accepted before is settled."""
        done = asyncio.Event()
        marker = Message(self._door, b"", _NOWHERE, lambda _: done.set(), ticket=_MARKER, items=[])
        self._waiting += 1
        self._idle.clear()
        if self._unresolved or self._resolving:
            self._unresolved.append(marker)
            self._resolve_wanted.set()
        else:
            self._dispatch(marker)
        await done.wait()

    @property
    def idle(self) -> bool:
        """Whether everything that was accepted is settled."""
        return self._waiting == 0

    def unsettled(self) -> Iterator[Message]:
        """The messages that were accepted and have no verdicts yet."""
        yield from self._unresolved
        yield from self._resolving
        for writer in self._writers:
            yield from writer.unsettled()

    def _counts_of(self, message: Message) -> EventCounts:
        return self.counts if message.origin.replay_of is None else self._replayed

    def _known(self, device_id: str) -> bool:
        return device_id in self._registry.devices and device_id not in self._unresolved_devices

    async def _resolve(self) -> None:
        """Resolve unknown devices. Later messages of the same devices wait behind the first."""
        while True:
            await self._resolve_wanted.wait()
            self._resolve_wanted.clear()
            self._resolving, self._unresolved = self._unresolved, []
            messages = self._resolving
            await self._registry.load({name for message in messages for name in message.devices})
            if new_devices := set(self._new_devices(messages)):
                await self._registry.add(new_devices)
            for message in messages:
                self._unresolved_devices.subtract(message.devices)
            self._unresolved_devices = +self._unresolved_devices
            self._resolving = []
            for message in messages:
                self._dispatch(message)

    def _new_devices(self, messages: Sequence[Message]) -> Iterator[str]:
        """The unknown devices to be registered; a rejected event registers none."""
        for message in messages:
            items = self._writers[0].decode(message)
            if not items and message.origin.device_id is not None:  # status or heartbeat
                yield message.origin.device_id
            for item in items:
                if isinstance(item, Event) and self._registry.fault(item) is None:
                    yield item.device_id

    def _dispatch(self, message: Message) -> None:
        if message.origin.device_id is not None:
            self._dispatch_whole(message, self._registry.devices.get(message.origin.device_id))
            return
        if message.ticket is _MARKER:
            message.open_parts = WRITERS
            for writer in self._writers:
                writer.add(Part(message, {}))
            return
        if message.items is not None and len(message.items) == 1:
            self._dispatch_single(message, message.items[0].device_id)
            return
        parts = list(self._parts(message))
        message.open_parts = len(parts)
        for n, part in parts:
            self._writers[n].add(part)

    def _dispatch_whole(self, message: Message, device: Device | None) -> None:
        """Dispatch a message of one device, as nearly all are: up to 40,000 of them per second."""
        message.open_parts = 1
        if device is None:
            self._writers[0].add(Part(message, {}))
        else:
            self._writers[device.device_no % WRITERS].add(Part(message, device.numbers))

    def _dispatch_single(self, message: Message, device_id: str | None) -> None:
        """Single posts share the first writer, so that its transactions are twice as large.

        Concurrent posts have no order, and the lanes serialise the writers.
        """
        device = None if device_id is None else self._registry.devices.get(device_id)
        message.open_parts = 1
        self._writers[0].add(Part(message, {} if device is None else device.numbers))

    def _parts(self, message: Message) -> Iterator[tuple[int, Part]]:
        devices = self._registry.devices
        numbers = {
            device_id: device.device_no
            for device_id in message.devices
            if (device := devices.get(device_id)) is not None
        }
        return parts_of(message, numbers, WRITERS)

    def _settle(self, parts: Sequence[Part]) -> None:
        for part in parts:
            message = part.message
            if message.part_done():
                counts = self._counts_of(message)
                counts.in_flight -= len(message.verdicts)
                count_verdicts(counts, message.verdicts)
                self._waiting -= 1
                self._waiting_bytes -= len(message.payload)
        if self._waiting == 0:
            self._idle.set()
