"""A fleet of simulated devices, each with its own MQTT session, will and outbox."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from time import monotonic

from pydantic_core import to_json

from broker import topics
from broker.client.delivery import Delivery
from broker.client.session import Session, silent_logger
from broker.simulator.device import BatteryDevice
from broker.simulator.outbox import SendCounts, as_payload, total
from broker.topics import TopicKind
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable
from runtime.signals import unless_stopped

ONLINE, OFFLINE = b'{"state":"online","receipts":true}', b"offline"
# A device that is gone raises no alert for longer than it announces: it is late after 1.5 times that.
GOODBYE = to_json({"state": "asleep", "wake_in_s": 366 * 86_400})
TICK_S = 0.5  # A repeat or a heartbeat is at most this late.
HEARTBEAT_S = 30.0
FINAL_RETRY_S = 1.0  # While the outbox drains, attempts are at most this far apart.
AWAKE_S_MAX = 10.0  # Then a device sleeps again and keeps the events without a receipt.
CLOSING_S_MAX = 2.0
START_GAP_S = 0.005  # Devices connect one after another.


class Fleet:
    """A fleet runs once. `address_of` says where a device connects, and as whom.

    `payload_bytes_max` limits the arrays of buffered events.

    With `keep_status` the last status of each device stays retained on the broker.
    """

    def __init__(
        self,
        address_of: Callable[[str], MqttAddress],
        devices: Sequence[BatteryDevice],
        *,
        payload_bytes_max: int,
        keep_status: bool = True,
    ) -> None:
        self._devices = [
            SimulatedDevice(
                address_of(each.device_id), each, payload_bytes_max, keep_status=keep_status
            )
            for each in devices
        ]

    @property
    def counts(self) -> SendCounts:
        return total(each.outbox.counts for each in self._devices)

    @property
    def waiting(self) -> int:
        """Events without a receipt."""
        return sum(len(each.outbox) for each in self._devices)

    @property
    def unsent(self) -> int:
        """Events of which no copy was ever sent."""
        return sum(each.outbox.unsent for each in self._devices)

    @property
    def connected(self) -> int:
        return sum(each.connected for each in self._devices)

    @property
    def was_connected(self) -> bool:
        """Whether any device has ever reached the broker."""
        return any(each.was_connected for each in self._devices)

    @property
    def trouble(self) -> str:
        """Why most devices have no connection, to follow the words "The broker"."""
        troubles = Counter(each.trouble for each in self._devices if not each.connected)
        return troubles.most_common(1)[0][0] if troubles else "accepts the devices"

    @property
    def device_ids(self) -> list[str]:
        return [each.device_id for each in self._devices]

    async def run(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """Measure and send until `stop` is set; then wait up to `drain_s` for receipts and disconnect."""
        async with asyncio.TaskGroup() as group:
            for number, device in enumerate(self._devices):
                if await unless_stopped(stop, asyncio.sleep(START_GAP_S if number else 0)):
                    group.create_task(device.run(stop, drain_s=drain_s))


class SimulatedDevice:
    """A device and its connection to the broker."""

    def __init__(
        self,
        address: MqttAddress,
        device: BatteryDevice,
        payload_bytes_max: int,
        *,
        keep_status: bool,
    ) -> None:
        self.outbox = device.outbox
        self._keep_status = keep_status
        self._device, self._bytes_max = device, payload_bytes_max
        self._status = topics.device(device.device_id, TopicKind.STATUS)
        self._telemetry = topics.device(device.device_id, TopicKind.TELEMETRY)
        self._heartbeat = topics.device(device.device_id, TopicKind.HEARTBEAT)
        self._session = Session(
            address,
            device.device_id,
            subscriptions=(topics.receipts(device.device_id),),
            on_delivery=self._take_receipts,
            on_connected=self._publish_birth,
            will=(self._status, OFFLINE),
            before_connect=self._until_alive,
            logger=silent_logger(),
        )
        self._born, self._due, self._receipt_came = (asyncio.Event() for _ in range(3))
        self._retry_s_max = math.inf
        self._published_at = 0.0
        self.was_connected = False

    @property
    def device_id(self) -> str:
        return self._device.device_id

    @property
    def connected(self) -> bool:
        return self._session.connected

    @property
    def trouble(self) -> str:
        return self._session.trouble

    async def run(self, stop: asyncio.Event, *, drain_s: float) -> None:
        """Sleep and wake, or stay connected, until `stop` is set; then drain and disconnect."""
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(self._measure(stop))
            while self._device.behaviour.sleep_s and not stop.is_set():
                await self._wake_and_sleep(stop, self._device.behaviour.sleep_s)
            async with self._online(closing_status=GOODBYE):
                await measuring  # It may measure once more after `stop`.
                self._retry_s_max = FINAL_RETRY_S
                await self._until_empty(drain_s)

    async def _measure(self, stop: asyncio.Event) -> None:
        """Measure at each interval, asleep or awake, connected or not."""
        interval_s = self._device.behaviour.interval_s
        pause_s = self._device.phase * interval_s
        while await unless_stopped(stop, asyncio.sleep(pause_s)):
            self._device.measure(datetime.now(UTC))
            self._due.set()
            pause_s = interval_s

    async def _wake_and_sleep(self, stop: asyncio.Event, sleep_s: float) -> None:
        asleep = to_json({"state": "asleep", "wake_in_s": sleep_s})
        async with self._online(closing_status=asleep):
            await unless_stopped(stop, self._until_empty(AWAKE_S_MAX))
        await unless_stopped(stop, asyncio.sleep(sleep_s))

    @asynccontextmanager
    async def _online(self, *, closing_status: bytes) -> AsyncIterator[None]:
        """Stay connected and send what is due; at the end publish a status and disconnect."""
        self._born.clear()
        leave = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._session.run(leave))
            working = [group.create_task(self._send()), group.create_task(self._die_in_time())]
            yield
            for task in working:
                task.cancel()
            with suppress(BrokerUnavailable, TimeoutError):
                async with asyncio.timeout(CLOSING_S_MAX):
                    await self._session.publish(self._status, closing_status, retain=True)
                    if closing_status is GOODBYE and not self._keep_status:
                        await self._session.publish(self._status, b"", retain=True)
            leave.set()

    async def _die_in_time(self) -> None:
        """Cut the connection each time the device dies, so that the broker publishes the will."""
        dead = self._device.behaviour.dead
        while dead is not None:
            await asyncio.sleep(dead.next_in_s(self._device.age_s(datetime.now(UTC))))
            self._session.reconnect()

    async def _until_alive(self) -> None:
        dead = self._device.behaviour.dead
        if dead is not None:
            await asyncio.sleep(dead.remaining_s(self._device.age_s(datetime.now(UTC))))

    async def _publish_birth(self, _session_present: bool) -> None:  # noqa: FBT001  # As Session calls it.
        self.was_connected = True
        await self._publish(self._status, ONLINE, retain=True)
        self.outbox.make_all_due()
        self._born.set()
        self._due.set()

    async def _send(self) -> None:
        await self._born.wait()
        while True:
            if self._session.connected:
                with suppress(BrokerUnavailable):
                    await self._send_due()
            await _wait(self._due, TICK_S)
            self._due.clear()

    async def _send_due(self) -> None:
        while bodies := self.outbox.take_due(
            monotonic(), bytes_max=self._bytes_max, retry_s_max=self._retry_s_max
        ):
            for _ in range(self._device.copies()):
                await self._publish(self._telemetry, as_payload(bodies))
        if monotonic() - self._published_at > HEARTBEAT_S:
            await self._publish(self._heartbeat, b"")

    async def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self._session.publish(topic, payload, retain=retain)
        self._published_at = monotonic()

    def _take_receipts(self, delivery: Delivery) -> None:
        self._device.take_receipts(delivery.payload)
        self._session.settle((delivery,))
        self._receipt_came.set()

    async def _until_empty(self, s_max: float) -> None:
        """Wait for a connection and for the receipt of every event, at most for `s_max`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(s_max):
                await self._born.wait()
                while self.outbox:
                    self._receipt_came.clear()
                    await self._receipt_came.wait()


async def _wait(event: asyncio.Event, s_max: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(s_max):
            await event.wait()
