"""The MQTT door beside a database that is away: what comes twice waits once, and everything is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.client.session import Delivery
from ingestor.mqtt.broker_drops import DropWatch
from ingestor.mqtt.canary import CanaryMonitor
from ingestor.mqtt.door import MqttDoor
from ingestor.mqtt.receipts import Receipts
from runtime.health import Health
from runtime.metrics import Dropped, Metrics
from schema.database import Connection
from tests.integration.conftest import make_pipeline
from tests.support.mqtt import until

TOPIC = "devices/a/telemetry"


def delivery(
    payload: Any, *, topic: str = TOPIC, mid: int = 1, generation: int = 1, qos: int = 1
) -> Delivery:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Delivery(topic, raw, qos, retain=False, mid=mid, generation=generation)


def event(n: int, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "metrics": {"x": n}} | more


class Entrance:
    """A door with its pipeline, which works only from `open` on, and what was acknowledged."""

    def __init__(self, dsn: str) -> None:
        self.metrics = Metrics()
        self.pipeline, _ = make_pipeline(dsn, metrics=self.metrics)
        self.settled: list[Delivery] = []
        self.door = MqttDoor(
            self.pipeline,
            self.settled.append,
            CanaryMonitor(dsn, "test", self.pipeline, Health(()), topic="voltwire/test/canary"),
            DropWatch(self.metrics),
            Receipts(self.metrics.receipts),
            self.metrics.messages,
        )
        self.stop = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._working = asyncio.create_task(self.pipeline.run(self.stop))

    async def close(self) -> None:
        self.stop.set()
        if self._working is not None:
            await self._working


@pytest.fixture
async def entrance(dsn: str) -> AsyncIterator[Entrance]:
    entrance = Entrance(dsn)
    yield entrance
    await entrance.close()


async def test_messages_sent_again_while_their_first_copies_wait_are_held_once(
    entrance: Entrance, db: Connection
) -> None:
    for generation in range(1, 6):
        for n in range(50):
            entrance.door.receive(delivery(event(n), mid=n + 1, generation=generation))
    assert len(list(entrance.pipeline.unsettled())) == 50
    assert entrance.pipeline.counts.dropped[Dropped.SUPERSEDED] == 200
    entrance.open()
    await until(lambda: len(entrance.settled) == 50)
    assert {each.generation for each in entrance.settled} == {5}, "acknowledged where they count"
    assert await db.fetchval("select count(*) from event") == 50
    assert entrance.pipeline.counts.balanced
    assert entrance.pipeline.counts.in_flight == 0


async def test_what_the_broker_forgot_stays_and_is_stored(
    entrance: Entrance, db: Connection
) -> None:
    for n in range(10):
        entrance.door.receive(delivery(event(n), mid=n + 1, generation=1))
    entrance.door.receive(delivery(event(3), generation=2))
    entrance.door.receive(delivery(event(77), generation=2))
    entrance.open()
    await until(lambda: len(entrance.settled) == 11)
    assert await db.fetchval("select count(*) from event") == 11


async def test_two_equal_messages_of_one_connection_are_two(entrance: Entrance) -> None:
    without_identity = {"metrics": {"x": 1}}
    for _ in range(2):
        entrance.door.receive(delivery(without_identity))
    entrance.door.receive(delivery(without_identity, generation=2))
    entrance.door.receive(delivery(without_identity, generation=2))
    entrance.door.receive(delivery(without_identity, generation=2))
    entrance.open()
    await until(lambda: len(entrance.settled) == 3)
    assert entrance.pipeline.counts.stored == 3
    assert entrance.pipeline.counts.without_identity == 3


async def test_a_copy_that_comes_after_the_commit_is_acknowledged_and_a_duplicate(
    entrance: Entrance,
) -> None:
    entrance.open()
    entrance.door.receive(delivery(event(1)))
    await until(lambda: len(entrance.settled) == 1)
    entrance.door.receive(delivery(event(1), generation=2))
    await until(lambda: len(entrance.settled) == 2)
    assert (entrance.pipeline.counts.stored, entrance.pipeline.counts.duplicate) == (1, 1)


async def test_every_event_that_comes_in_is_accounted_for(entrance: Entrance) -> None:
    counts = entrance.pipeline.counts
    entrance.door.receive(delivery(event(1)))
    entrance.door.receive(delivery([event(1), event(2), {"metrics": {}}]))
    entrance.door.receive(delivery(b"{"))
    entrance.door.receive(delivery(event(3, metrics={"soc_percent": 101})))
    entrance.door.receive(delivery(b""))
    entrance.door.receive(delivery(event(4), topic="devices/a b/telemetry"))
    entrance.door.receive(delivery(b"online", topic="devices/a/status"))
    entrance.door.receive(delivery(b"", topic="devices/a/heartbeat", qos=0))
    assert counts.balanced
    assert (counts.received, counts.in_flight) == (6, 4), "an array counts as one until it is read"
    entrance.open()
    await until(lambda: entrance.pipeline.idle)
    assert counts.balanced
    assert (counts.received, counts.in_flight) == (8, 0)
    assert (counts.stored, counts.duplicate, counts.rejected.total()) == (2, 1, 3)
    assert counts.dropped == {Dropped.EMPTY: 1, Dropped.BAD_TOPIC: 1}
    assert entrance.metrics.messages["telemetry", 1] == 5
    assert entrance.metrics.messages["heartbeat", 0] == 1
    assert entrance.metrics.messages["other", 1] == 1


async def test_a_report_of_dropped_messages_is_logged_once(
    entrance: Entrance, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = "$SYS/broker/publish/messages/dropped"
    for count in (b"0", b"7", b"7", b"nonsense", b"9", b"0"):
        entrance.door.receive(delivery(count, topic=topic))
    logged = [line for line in capsys.readouterr().out.splitlines() if "dropped messages" in line]
    assert len(logged) == 2
    assert "messages=7" in logged[0]
    assert "messages=2" in logged[1]
    assert len(entrance.settled) == 6
