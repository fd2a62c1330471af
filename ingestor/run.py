"""The MQTT door as a role: start, receive until told to stop, flush, acknowledge, leave."""

import asyncio

from broker import topics
from broker.session import Session
from ingestor.door import MqttDoor
from ingestor.drops import DropWatch
from ingestor.hearing import Hearing
from ingestor.lease import Lease
from ingestor.origin import Limits
from ingestor.pipeline import Pipeline
from ingestor.receipts import Receipts
from ingestor.writer import WriterLimits
from schema.event import Door
from schema.health import Health
from schema.metrics import Metrics
from schema.migrate import until_migrated
from schema.process import before
from schema.settings import Settings

LINGER_S = 0.015  # A batch fills meanwhile; publish to visible stays within tens of milliseconds.


async def run(settings: Settings, stop: asyncio.Event, health: Health, metrics: Metrics) -> None:
    """Receive, store and acknowledge until `stop` is set, whenever the lease is ours."""
    client_id = f"{settings.instance}-ingest"
    pipeline = Pipeline(
        settings.dsn,
        WriterLimits(Limits.of(settings), linger_s=LINGER_S),
        name=f"{settings.instance} ingest writer",
        default_profile=settings.default_profile,
        offline_after_s=settings.offline_after_seconds,
        door=Door.MQTT,
        health=health,
        metrics=metrics,
    )
    hearing = Hearing(settings.dsn, settings.instance, pipeline, health)
    receipts = Receipts(metrics.receipts)
    lease = Lease(settings.dsn, client_id, health)
    door = MqttDoor(
        pipeline,
        lambda delivery: session.settle((delivery,)),
        hearing,
        DropWatch(metrics),
        receipts,
        metrics.messages,
    )

    async def connected(session_present: bool) -> None:  # noqa: FBT001  # The session's signature.
        metrics.connections.labels(client_id).inc()
        if not session_present:
            metrics.new_sessions.labels(client_id).inc()

    session = Session(
        settings.mqtt,
        client_id,
        subscriptions=(*topics.DEVICE_FILTERS, hearing.topic),
        wishes=(topics.DROPPED,),
        on_delivery=door.receive,
        on_connected=connected,
        permit=lease.confirmed,
    )
    drained, left = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        if not await before(stop, until_migrated(settings.dsn, health)):
            return
        writing = group.create_task(pipeline.run(drained))
        receiving = group.create_task(_receive(session, door, lease, left))
        helpers = [
            group.create_task(work)
            for work in (lease.run(), hearing.listen(session), receipts.send(session))
        ]
        await stop.wait()
        door.close()
        drained.set()
        await writing
        for helper in helpers:
            helper.cancel()
        left.set()
        await receiving


async def _receive(session: Session, door: MqttDoor, lease: Lease, left: asyncio.Event) -> None:
    """Be connected while the lease is ours, until `left` is set."""
    while not left.is_set() and await before(left, lease.held()):
        leave = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run(leave))
            if await before(left, lease.lost()):
                door.abandon()
            leave.set()
