"""One session with everything between the broker and the database: door, pipeline, receipts."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from broker.client.session import Session
from ingestor.mqtt.broker_drops import DropWatch
from ingestor.mqtt.canary import CanaryMonitor
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
    """Receives what one client id is sent.

    Before each connection `prepare` is awaited. It returns filters that the session may have from before
    and shall not have any more: they end once the others are granted, so that nothing falls in between.
    Storing is told to `health`, hearing to `hearing_health`.
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
        canary: str,
        hearing_health: Health,
        prepare: Callable[[], Awaitable[Collection[str]]],
    ) -> None:
        self._client_id, self._lease, self._metrics = member.client_id, lease, metrics
        self._prepare = prepare
        self._surplus: Collection[str] = ()
        self._pipeline = Pipeline.of(
            settings,
            name=f"{member.name} writer",
            door=Door.MQTT,
            health=health,
            metrics=metrics,
            linger_s=LINGER_S,
        )
        self.hearing = CanaryMonitor(
            settings.dsn, member.client_id, self._pipeline, hearing_health, topic=canary
        )
        self._receipts = Receipts(metrics.receipts)
        self._door = MqttDoor(
            self._pipeline,
            lambda delivery: self.session.settle((delivery,)),
            self.hearing,
            DropWatch(metrics),
            self._receipts,
            metrics.messages,
        )
        self.session = Session(
            settings.mqtt,
            member.client_id,
            subscriptions=subscriptions,
            optional_subscriptions=optional_subscriptions,
            on_delivery=self._door.receive,
            on_connected=self._connected,
            before_connect=self._permit,
        )
        self.subscribed = asyncio.Event()  # To what it shall be, and to nothing else; once.

    async def run(self, stop: asyncio.Event) -> None:
        """Receive, store and acknowledge until `stop` is set, whenever the lease is ours."""
        drained, left = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._pipeline.run(drained))
            receiving = group.create_task(self._receive(left))
            telling = group.create_task(self._receipts.send(self.session))
            await stop.wait()
            self._door.close()
            drained.set()
            await writing
            telling.cancel()
            left.set()
            await receiving

    async def _receive(self, left: asyncio.Event) -> None:
        """Be connected while the lease is ours, until `left` is set."""
        while not left.is_set() and await unless_stopped(left, self._lease.held()):
            leave = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.session.run(leave))
                if await unless_stopped(left, self._lease.lost()):
                    self._door.abandon()
                leave.set()

    async def _permit(self) -> None:
        await self._lease.confirmed()
        self._surplus = await self._prepare()
        await self._lease.confirmed()  # That may have taken long.

    async def _connected(self, session_present: bool) -> None:  # noqa: FBT001  # The session's signature.
        self._metrics.connections.labels(self._client_id).inc()
        if not session_present:
            self._metrics.new_sessions.labels(self._client_id).inc()
        for topic_filter in self._surplus:
            await self.session.unsubscribe(topic_filter)
        self.subscribed.set()
