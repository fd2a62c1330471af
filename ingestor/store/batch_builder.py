"""Decoded items become a batch: judged by the profile of their device, under the number of their device.

The cache behind that may be older than the database: the writing transaction finds out, and then the
same items are judged again.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from ingestor.batch import Batch, Message, Part, RejectedItem, Row
from ingestor.decode.acceptance import AcceptLimits, outside_window
from ingestor.decode.strict import reject
from ingestor.store.registry import Registry
from schema.event import Event, Reason, Rejection
from schema.instants import rfc3339

# An event with its message, its place among the items, and the place of its message in the batch.
_Pending = tuple[Event, Message, int, int]


class BatchBuilder:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def batch(self, parts: Sequence[Part]) -> Batch:
        """What the parts hold: events and dead letters in order of arrival, signs of life."""
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
        names = {name for part in parts for name in part.numbers}
        await self._judge(batch, events, names)
        devices = self._registry.devices
        for part in parts:
            if part.message.sign is not None:
                for name in part.numbers or part.message.devices & devices.keys():
                    batch.sign(devices[name].device_no, name, part.message.sign)
        return batch

    async def again(self, batch: Batch) -> Batch:
        """The same batch with the numbers and ranges of today, what was out of range included."""
        kept = [letter for letter in batch.dead_letters if letter.event is None]
        events: list[_Pending] = [
            (row.event, row.message, row.place, row.order) for row in batch.rows
        ]
        events += [
            (letter.event, letter.message, letter.place, letter.order)
            for letter in batch.dead_letters
            if letter.event is not None
        ]
        events.sort(key=lambda pending: (pending[3], pending[2]))
        fresh = Batch([], kept)
        expected = {row.event.device_id for row in batch.rows}.union(batch.names.values())
        await self._registry.learn(expected.union(event.device_id for event, *_ in events))
        await self._judge(fresh, events, expected)
        for old, name in batch.names.items():
            number = self._registry.devices[name].device_no
            fresh.names[number], fresh.signs[number] = name, batch.signs[old]
            if old in batch.receipts:
                fresh.receipts[number] = batch.receipts[old]
        return fresh

    async def _judge(
        self, batch: Batch, events: Sequence[_Pending], expected: Collection[str]
    ) -> None:
        await self._know(events, expected)
        batch.edition = self._registry.edition
        devices, rows = self._registry.devices, batch.rows
        for event, message, place, order in events:
            device = devices.get(event.device_id)
            fault = self._registry.fault(event) if device is None else device.profile.fault(event)
            if fault is None:
                rows.append(Row(devices[event.device_id].device_no, event, message, place, order))
            else:
                rejection = reject(event, message.source, Reason.OUT_OF_RANGE, fault)
                batch.dead_letters.append(RejectedItem(rejection, message, place, order, event))

    async def _know(self, events: Sequence[_Pending], expected: Collection[str]) -> None:
        """Return when each device that needs a number has one, all at the same time.

        The cache may have started anew since a device was dispatched, or the device is forgotten. And
        a stranger that came with nothing valid may have something valid by now.
        """
        while missing := self._unknown(events, expected):
            await self._registry.learn(missing)
            if unregistered := self._unknown(events, expected):
                await self._registry.add(unregistered)

    def _unknown(self, events: Sequence[_Pending], expected: Collection[str]) -> set[str]:
        devices, fault = self._registry.devices, self._registry.fault
        unknown = {name for name in expected if name not in devices}
        for event, *_ in events:
            if event.device_id not in devices and fault(event) is None:
                unknown.add(event.device_id)
        return unknown


def inside_window(batch: Batch, now: datetime, limits: AcceptLimits) -> Batch:
    """The same batch, with those events as dead letters whose time would not be accepted at `now`."""
    return _without(batch, lambda ts: outside_window(ts, now, limits))


def above_floor(batch: Batch, floor: datetime) -> Batch:
    """The same batch, with those events as dead letters that are from before the floor of raw events."""
    fault = (Reason.OLDER_THAN_RETENTION, f"raw events are kept from {rfc3339(floor)} on")
    return _without(batch, lambda ts: fault if ts < floor else None)


def _without(batch: Batch, fault_of: Callable[[datetime], tuple[Reason, str] | None]) -> Batch:
    placed = replace(batch, rows=[], dead_letters=[*batch.dead_letters])
    for row in batch.rows:
        fault = fault_of(row.event.ts)
        if fault is None:
            placed.rows.append(row)
        else:
            rejection = reject(row.event, row.message.source, *fault)
            placed.dead_letters.append(RejectedItem(rejection, row.message, row.place))
    return placed
