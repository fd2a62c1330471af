"""One MQTT session and everything between it and the database: door, pipeline, canary, receipts."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from broker.client.delivery import Delivery
from broker.client.session import Session
from ingestor.mqtt.broker_drops import DropWatch
from ingestor.mqtt.canary import CanaryMonitor
from ingestor.mqtt.device_rate import DeviceRate
from ingestor.mqtt.door import MqttDoor
from ingestor.mqtt.lease import Lease
from ingestor.mqtt.member import Member
from ingestor.mqtt.receipts import Receipts
from ingestor.pipeline import Pipeline
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import unless_stopped
from schema.event import Door

LINGER_S = 0.015  # A batch fills meanwhile; publish to visible stays within tens of milliseconds.


class Receiver:
    """Receives for one client id.

    Before each connection `find_stale_filters` returns the filters that the session may still have and no
    longer needs. They end once the others are granted, so that no message falls in between.
    The check `storing` goes to `health`; `broker` and `canary` go to `canary_health`.
    Session and door need each other: the door, created first, reaches the session through `_settle`.
    """

    def __init__(
        self,
        settings: Settings,
        member: Member,
        lease: Lease,
        health: Health,
        metrics: Metrics,
        *,
        subscriptions: Sequence[str],
        optional_subscriptions: Sequence[str] = (),
        canary_topic: str,
        canary_health: Health,
        find_stale_filters: Callable[[], Awaitable[Collection[str]]],
    ) -> None:
        self._client_id, self._lease, self._metrics = member.client_id, lease, metrics
        self._find_stale_filters = find_stale_filters
        self._stale_filters: Collection[str] = ()
        self._pipeline = Pipeline.of(
            settings,
            name=f"{member.name} writer",
            door=Door.MQTT,
            health=health,
            metrics=metrics,
            linger_s=LINGER_S,
        )
        self.canary = CanaryMonitor(
            settings.dsn, member.client_id, self._pipeline, canary_health, topic=canary_topic
        )
        self._receipts = Receipts(metrics.receipts)
        self._door = MqttDoor(
            self._pipeline,
            self._settle,
            self.canary,
            DropWatch(metrics),
            self._receipts,
            metrics.messages,
            _device_rate(settings),
        )
        self.session = Session(
            settings.mqtt,
            member.client_id,
            subscriptions=subscriptions,
            optional_subscriptions=optional_subscriptions,
            on_delivery=self._door.receive,
            on_connected=self._connected,
            before_connect=self._before_connect,
        )
        self.subscribed = asyncio.Event()  # Set once the session has its filters and no stale ones.

    async def run(self, stop: asyncio.Event) -> None:
        """Receive, store and acknowledge while we hold the lease, until `stop` is set."""
        drained, left = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._pipeline.run(drained))
            receiving = group.create_task(self._receive(left))
            sending = group.create_task(self._receipts.send(self.session))
            await stop.wait()
            self._door.close()
            drained.set()
            await writing
            sending.cancel()
            left.set()
            await receiving

    async def _receive(self, left: asyncio.Event) -> None:
        """Stay connected while we hold the lease, until `left` is set."""
        while not left.is_set() and await unless_stopped(left, self._lease.held()):
            leave = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.session.run(leave))
                if await unless_stopped(left, self._lease.lost()):
                    self._door.abandon()
                leave.set()

    def _settle(self, delivery: Delivery) -> None:
        self.session.settle((delivery,))

    async def _before_connect(self) -> None:
        await self._lease.confirmed()
        self._stale_filters = await self._find_stale_filters()
        await self._lease.confirmed()  # Again, because the query may have taken long.

    async def _connected(self, session_present: bool) -> None:  # noqa: FBT001  # Session defines the signature.
        self._metrics.connections.labels(self._client_id).inc()
        if not session_present:
            self._metrics.new_sessions.labels(self._client_id).inc()
        for topic_filter in self._stale_filters:
            await self.session.unsubscribe(topic_filter)
        self.subscribed.set()


def _device_rate(settings: Settings) -> DeviceRate | None:
    if not settings.mqtt_rate_limit:
        return None
    return DeviceRate(settings.mqtt_rate_limit, settings.max_payload_bytes)
