"""A fleet of pretend devices, each with an MQTT session, a will and an outbox of its own."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import structlog
from pydantic_core import to_json

from broker import topics
from broker.client.session import Delivery, Session
from broker.simulator.device import BatteryDevice
from broker.simulator.outbox import SendCounts, as_payload, total
from broker.topics import TopicKind
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable
from runtime.signals import unless_stopped

ONLINE, OFFLINE = b'{"state":"online","receipts":true}', b"offline"
TICK_S = 0.5  # How late a repeat or a heartbeat may be.
HEARTBEAT_S = 30.0
HASTE_S = 1.0  # At the end no receipt is waited for longer than this before the next attempt.
AWAKE_S_MAX = 10.0  # A sleeper takes what it still owes back to sleep.
FAREWELL_S_MAX = 2.0
START_GAP_S = 0.005  # Devices connect one after another.


class Fleet:
    """To be run once. `payload_bytes_max` bounds the arrays of buffered events."""

    def __init__(
        self, address: MqttAddress, devices: Sequence[BatteryDevice], *, payload_bytes_max: int
    ) -> None:
        self._devices = [SimulatedDevice(address, each, payload_bytes_max) for each in devices]

    @property
    def tally(self) -> SendCounts:
        return total(each.outbox.tally for each in self._devices)

    @property
    def waiting(self) -> int:
        """Events without a receipt."""
        return sum(len(each.outbox) for each in self._devices)

    @property
    def connected(self) -> int:
        return sum(each.connected for each in self._devices)

    async def run(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """Measure and send until `stop` is set; then wait for receipts, at most `drain_s`, and leave."""
        async with asyncio.TaskGroup() as group:
            for number, device in enumerate(self._devices):
                if await unless_stopped(stop, asyncio.sleep(START_GAP_S if number else 0)):
                    group.create_task(device.run(stop, drain_s=drain_s))


class SimulatedDevice:
    """A device and its connection to the broker."""

    def __init__(self, address: MqttAddress, device: BatteryDevice, payload_bytes_max: int) -> None:
        self.outbox = device.outbox
        self._device, self._bytes_max = device, payload_bytes_max
        self._status = topics.device(device.device_id, TopicKind.STATUS)
        self._telemetry = topics.device(device.device_id, TopicKind.TELEMETRY)
        self._heartbeat = topics.device(device.device_id, TopicKind.HEARTBEAT)
        self._session = QuietSession(
            address,
            device.device_id,
            subscriptions=(topics.receipts(device.device_id),),
            on_delivery=self._take_receipts,
            on_connected=self._greet,
            will=(self._status, OFFLINE),
        )
        self._greeted, self._measured, self._heard = (asyncio.Event() for _ in range(3))
        self._patience_s = math.inf
        self._spoke_at = 0.0

    @property
    def connected(self) -> bool:
        return self._session.connected

    async def run(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """1. One that sleeps: nap and wake. Others: stay. 2. After `stop`: drain, leave."""
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(self._measure(stop))
            while self._device.habits.sleep_s and not stop.is_set():
                await self._wake_and_nap(stop, self._device.habits.sleep_s)
            async with self._online(farewell=OFFLINE):
                await measuring  # It may have measured once more when `stop` was set.
                self._patience_s = HASTE_S
                await self._until_empty(drain_s)

    async def _measure(self, stop: asyncio.Event) -> None:
        """Asleep or awake, connected or not."""
        interval_s = self._device.habits.interval_s
        pause_s = self._device.phase * interval_s
        while await unless_stopped(stop, asyncio.sleep(pause_s)):
            self._device.measure(datetime.now(UTC))
            self._measured.set()
            pause_s = interval_s

    async def _wake_and_nap(self, stop: asyncio.Event, sleep_s: float) -> None:
        asleep = to_json({"state": "asleep", "wake_in_s": sleep_s})
        async with self._online(farewell=asleep):
            await unless_stopped(stop, self._until_empty(AWAKE_S_MAX))
        await unless_stopped(stop, asyncio.sleep(sleep_s))

    @asynccontextmanager
    async def _online(self, *, farewell: bytes) -> AsyncIterator[None]:
        """Connected as long as the broker allows, sending what is due; then a status and DISCONNECT."""
        self._greeted.clear()
        leave = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._session.run(leave))
            sending = group.create_task(self._send())
            yield
            sending.cancel()
            with suppress(BrokerUnavailable, TimeoutError):
                async with asyncio.timeout(FAREWELL_S_MAX):
                    await self._session.publish(self._status, farewell, retain=True)
            leave.set()

    async def _greet(self, _session_present: bool) -> None:  # noqa: FBT001  # As Session calls it.
        await self._say(self._status, ONLINE, retain=True)
        self.outbox.make_all_due()
        self._greeted.set()
        self._measured.set()

    async def _send(self) -> None:
        await self._greeted.wait()
        while True:
            if self._session.connected:
                with suppress(BrokerUnavailable):
                    await self._send_due()
            await _at_most(TICK_S, self._measured)
            self._measured.clear()

    async def _send_due(self) -> None:
        while bodies := self.outbox.take_due(
            monotonic(), bytes_max=self._bytes_max, patience_s=self._patience_s
        ):
            for _ in range(self._device.copies()):
                await self._say(self._telemetry, as_payload(bodies))
        if monotonic() - self._spoke_at > HEARTBEAT_S:
            await self._say(self._heartbeat, b"")

    async def _say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self._session.publish(topic, payload, retain=retain)
        self._spoke_at = monotonic()

    def _take_receipts(self, delivery: Delivery) -> None:
        self._device.take_receipts(delivery.payload)
        self._session.settle((delivery,))
        self._heard.set()

    async def _until_empty(self, s_max: float) -> None:
        """Until it was connected and every event has its receipt, or the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(s_max):
                await self._greeted.wait()
                while self.outbox:
                    self._heard.clear()
                    await self._heard.wait()


class QuietSession(Session):
    """Without a log: the fleet reports how many are connected, and a device tells nobody its troubles."""

    def __init__(self, address: MqttAddress, client_id: str, **options: Any) -> None:
        super().__init__(address, client_id, **options)
        silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
        self._log = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=silent)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
