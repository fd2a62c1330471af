"""The MQTT door as a role: start, receive until told to stop, flush, acknowledge, leave."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from broker import topics
from broker.session import Delivery, Session
from broker.topics import Kind
from ingestor.batch import Message
from ingestor.decode import Limits, Origin
from ingestor.hearing import Hearing
from ingestor.pipeline import Pipeline
from ingestor.receipts import Receipts
from ingestor.signs import HEARTBEAT, TELEMETRY, read_status
from ingestor.writer import WriterLimits
from schema.event import Door
from schema.health import Health
from schema.migrate import until_migrated
from schema.process import before
from schema.settings import Settings

LINGER_S = 0.015  # A batch fills meanwhile; publish to visible stays within tens of milliseconds.


class MqttDoor:
    """Deliveries become messages of the pipeline; a settled message is acknowledged."""

    def __init__(
        self,
        pipeline: Pipeline,
        settle: Callable[[Delivery], None],
        hearing: Hearing,
        receipts: Receipts,
    ) -> None:
        self._pipeline, self._settle, self._hearing = pipeline, settle, hearing
        self._receipts = receipts
        self._open = True

    def close(self) -> None:
        """Take nothing more: what comes stays unacknowledged and comes again."""
        self._open = False

    def receive(self, delivery: Delivery) -> None:
        if not self._open:
            return
        parsed = topics.parse(delivery.topic)
        if parsed is None:
            if delivery.topic == self._hearing.topic:
                self._hearing.came()
            self._settle(delivery)
            return
        kind, device_id = parsed
        message = self._message(kind, device_id, delivery)
        if message is None:
            self._settle(delivery)
        else:
            self._pipeline.accept(message)

    def _message(self, kind: Kind, device_id: str, delivery: Delivery) -> Message | None:
        """None: it says nothing. What the broker kept is no sign of life, but it may be an event."""
        origin = Origin(datetime.now(UTC), device_id, delivery.retain)
        if kind is Kind.TELEMETRY:
            if not delivery.payload:
                return None
            sign = None if delivery.retain else TELEMETRY
            return Message(Door.MQTT, delivery.payload, origin, self._done, sign, delivery)
        if delivery.retain:
            return None
        sign = HEARTBEAT if kind is Kind.HEARTBEAT else read_status(delivery.payload)
        if sign is None:
            return None
        return Message(Door.MQTT, b"", origin, self._done, sign, delivery, items=[])

    def _done(self, message: Message) -> None:
        delivery, device_id = message.ticket, message.origin.device_id
        assert isinstance(delivery, Delivery)  # noqa: S101  # Both set by _message alone.
        assert device_id is not None  # noqa: S101
        self._settle(delivery)
        if message.verdicts:
            wanted = self._pipeline.wants_receipts(device_id)
            self._receipts.add(delivery, device_id, message.verdicts, wanted=wanted)


async def run(settings: Settings, stop: asyncio.Event, health: Health) -> None:
    """Receive, store and acknowledge until `stop` is set."""
    pipeline = Pipeline(
        settings.dsn,
        WriterLimits(Limits.of(settings), linger_s=LINGER_S),
        name=f"{settings.instance} ingest writer",
        default_profile=settings.default_profile,
        offline_after_s=settings.offline_after_seconds,
        health=health,
    )
    hearing = Hearing(settings.dsn, settings.instance, pipeline, health)
    receipts = Receipts()
    door = MqttDoor(pipeline, lambda delivery: session.settle((delivery,)), hearing, receipts)
    session = Session(
        settings.mqtt,
        f"{settings.instance}-ingest",
        subscriptions=(*topics.DEVICE_FILTERS, hearing.topic),
        on_delivery=door.receive,
    )
    drained, left = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        if not await before(stop, until_migrated(settings.dsn, health)):
            return
        writing = group.create_task(pipeline.run(drained))
        receiving = group.create_task(session.run(left))
        helpers = [
            group.create_task(work)
            for work in (hearing.sing(session), hearing.note(), receipts.send(session))
        ]
        await stop.wait()
        door.close()
        drained.set()
        await writing
        for helper in helpers:
            helper.cancel()
        left.set()
        await receiving
