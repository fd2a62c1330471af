"""Build a batch from decoded items: each event gets its device number and is checked by its profile.

A time without offset becomes an instant by the time zone of its device. The registry cache may be older than
the database. The writing transaction detects it, and the batch is built again from the same items.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from ingestor.batch import Batch, Message, Part, RejectedItem, Row
from ingestor.decode.acceptance import AcceptLimits, Fault, outside_window
from ingestor.decode.strict import reject
from ingestor.store.registry import Registry
from schema.event import Event, Reason, Rejection
from schema.instants import rfc3339

# An event, its message, its place among the items, and the place of its message in the batch.
_Pending = tuple[Event, Message, int, int]


class BatchBuilder:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def build(self, parts: Sequence[Part]) -> Batch:
        """The batch of these parts, its events and dead letters in order of arrival."""
        batch = Batch()
        events: list[_Pending] = []
        for order, part in enumerate(parts):
            message, items = part.message, part.message.items or []
            for place in part.indexes if part.indexes is not None else range(len(items)):
                item = items[place]
                if isinstance(item, Rejection):
                    batch.dead_letters.append(RejectedItem(item, message, place))
                else:
                    events.append((item, message, place, order))
        device_ids = {device_id for part in parts for device_id in part.numbers}
        await self._check(batch, events, device_ids)
        devices = self._registry.devices
        for part in parts:
            if part.message.signal is not None:
                for device_id in part.numbers or part.message.devices & devices.keys():
                    number = devices[device_id].device_no
                    batch.add_signal(number, device_id, part.message.signal)
        return batch

    async def rebuild(self, batch: Batch) -> Batch:
        """The same batch with the present numbers and ranges; events out of range get another chance."""
        kept = [rejected for rejected in batch.dead_letters if rejected.event is None]
        events: list[_Pending] = [
            (row.event, row.message, row.place, row.order) for row in batch.rows
        ]
        events += [
            (rejected.event, rejected.message, rejected.place, rejected.order)
            for rejected in batch.dead_letters
            if rejected.event is not None
        ]
        events.sort(key=lambda pending: (pending[3], pending[2]))
        fresh = Batch([], kept)
        expected = {row.event.device_id for row in batch.rows}.union(batch.device_ids.values())
        await self._registry.load(expected.union(event.device_id for event, *_ in events))
        await self._check(fresh, events, expected)
        for old, device_id in batch.device_ids.items():
            number = self._registry.devices[device_id].device_no
            fresh.device_ids[number], fresh.presence[number] = device_id, batch.presence[old]
            if old in batch.receipts:
                fresh.receipts[number] = batch.receipts[old]
        return fresh

    async def _check(
        self, batch: Batch, events: Sequence[_Pending], expected: Collection[str]
    ) -> None:
        await self._resolve(events, expected)
        batch.registry_version = self._registry.version
        devices, rows = self._registry.devices, batch.rows
        for event, message, place, order in events:
            device = devices.get(event.device_id)
            if device is None or event.wall_us is not None:
                fault = self._registry.fault(event)
            else:
                fault = device.profile.fault(event)
            if fault is None:
                rows.append(Row(devices[event.device_id].device_no, event, message, place, order))
            else:
                rejection = reject(event, message.source, *fault)
                batch.dead_letters.append(RejectedItem(rejection, message, place, order, event))

    async def _resolve(self, events: Sequence[_Pending], expected: Collection[str]) -> None:
        """Return when every device that needs a number has one in the cache, all at the same time.

        Since a device was dispatched, the cache may have been emptied or the device deleted. And an
        unknown device without a valid event may have one by now.
        """
        while missing := self._unknown(events, expected):
            await self._registry.load(missing)
            if unregistered := self._unknown(events, expected):
                await self._registry.add(unregistered)

    def _unknown(self, events: Sequence[_Pending], expected: Collection[str]) -> set[str]:
        devices, fault = self._registry.devices, self._registry.fault
        named = {event.device_id for event, _, _, _ in events}
        unregistered = {device_id for device_id in named if device_id not in devices}
        unknown = {device_id for device_id in expected if device_id not in devices}
        if unregistered:
            for event, *_ in events:
                if event.device_id in unregistered and fault(event) is None:
                    unknown.add(event.device_id)
        return unknown


def inside_window(batch: Batch, now: datetime, limits: AcceptLimits) -> Batch:
    """The same batch; events whose time is not accepted at `now` become dead letters."""
    return _without(batch, lambda ts: outside_window(ts, now, limits))


def above_floor(batch: Batch, floor: datetime) -> Batch:
    """The same batch; events from before the floor of raw events become dead letters."""
    fault = (Reason.OLDER_THAN_RETENTION, f"raw events are kept from {rfc3339(floor)} on")
    return _without(batch, lambda ts: fault if ts < floor else None)


def _without(batch: Batch, fault_of: Callable[[datetime], Fault | None]) -> Batch:
    placed = replace(batch, rows=[], dead_letters=[*batch.dead_letters])
    for row in batch.rows:
        fault = fault_of(row.event.ts)
        if fault is None:
            placed.rows.append(row)
        else:
            rejection = reject(row.event, row.message.source, *fault)
            placed.dead_letters.append(RejectedItem(rejection, row.message, row.place))
    return placed
