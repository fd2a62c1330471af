"""The MQTT door beside a database that is away: what comes twice waits once, and everything is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.client.delivery import Delivery
from ingestor.mqtt.broker_drops import DropWatch
from ingestor.mqtt.canary import CanaryMonitor
from ingestor.mqtt.device_rate import DeviceRate
from ingestor.mqtt.door import MqttDoor
from ingestor.mqtt.dropped_topics import EVERY_S, TOPICS_MAX, DroppedTopics
from ingestor.mqtt.receipts import Receipts
from runtime.health import Health
from runtime.metrics import Dropped, Metrics
from schema.database import Connection
from schema.event import Reason
from tests.integration.conftest import make_pipeline
from tests.support.brokers.mqtt import until

TOPIC = "devices/a/telemetry"
CANARY = "voltwire/test/canary"


def delivery(
    payload: Any, *, topic: str = TOPIC, mid: int = 1, generation: int = 1, qos: int = 1
) -> Delivery:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Delivery(topic, raw, qos, retain=False, mid=mid, generation=generation)


def event(n: int, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{n}", "metrics": {"x": n}} | more


class Entrance:
    """A door with its pipeline, which works only from `open` on, and what was acknowledged."""

    def __init__(self, dsn: str, rate: DeviceRate | None = None) -> None:
        self.metrics = Metrics()
        self.pipeline, _ = make_pipeline(dsn, metrics=self.metrics)
        self.settled: list[Delivery] = []
        self.receipts = Receipts(self.metrics.receipts)
        self.canary = CanaryMonitor(dsn, "test", self.pipeline, Health(()), topic=CANARY)
        self.door = MqttDoor(
            self.pipeline,
            self.settled.append,
            self.canary,
            DropWatch(self.metrics),
            self.receipts,
            self.metrics.messages,
            rate,
        )
        self.stop = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    @property
    def receipts_waiting(self) -> int:
        return len(self.receipts._waiting)

    def receive_canary(self, *, sent_on: int, generation: int) -> None:
        payload = self.canary._payload(sent_on)
        self.door.receive(delivery(payload, topic=CANARY, generation=generation))

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


async def test_a_status_that_cannot_be_read_is_a_dead_letter_and_no_sign_of_life(
    entrance: Entrance, db: Any
) -> None:
    counts = entrance.pipeline.counts
    entrance.open()
    for payload in (b"on", b'{"state":"late"}', b"\xff" * 2000):
        entrance.door.receive(delivery(payload, topic="devices/a/status"))
    entrance.door.receive(delivery(b"", topic="devices/a/status"))
    retained = Delivery("devices/a/status", b"on", 1, retain=True, mid=9, generation=1)
    entrance.door.receive(retained)
    await until(lambda: len(entrance.settled) == 5)
    letters = await db.fetch("select reason, device_id, payload from rejected order by rejected_id")
    assert [row["payload"] for row in letters] == [b"on", b'{"state":"late"}', b"\xff" * 1024]
    assert {(row["reason"], row["device_id"]) for row in letters} == {("bad_status", "a")}
    assert await db.fetchval("select count(*) from device") == 0
    assert counts.balanced
    assert (counts.received, counts.rejected[Reason.BAD_STATUS]) == (3, 3)
    assert not entrance.receipts_waiting
    entrance.door.receive(delivery(b"ONLINE\0", topic="devices/a/status"))
    await until(lambda: len(entrance.settled) == 6)
    assert await db.fetchval("select reason from presence") == "birth"


async def test_a_topic_whose_messages_are_dropped_is_named_once_an_hour(
    entrance: Entrance, capsys: pytest.CaptureFixture[str]
) -> None:
    too_long = f"devices/{'x' * 129}/status"
    for topic in ("devices/gerät/telemetry", "devices/a b/status", too_long):
        for _ in range(3):
            entrance.door.receive(delivery(event(1), topic=topic))
    entrance.door.receive(delivery(b""))
    logged = [line for line in capsys.readouterr().out.splitlines() if "was dropped" in line]
    assert len(logged) == 4
    for line, topic in zip(logged, ("gerät", "a b", too_long, TOPIC), strict=True):
        assert topic in line
    assert entrance.pipeline.counts.dropped == {Dropped.BAD_TOPIC: 3, Dropped.EMPTY: 1}


def test_dropped_topics_are_named_again_after_an_hour_and_never_too_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    dropped = DroppedTopics(clock=lambda: now)
    for n in range(TOPICS_MAX + 100):
        dropped.name(f"t{n}", "why")
    now = EVERY_S - 1
    dropped.name("t1", "why")
    assert len(capsys.readouterr().out.splitlines()) == TOPICS_MAX
    now = EVERY_S
    dropped.name("t1", "why")
    dropped.name("new", "why")
    assert len(capsys.readouterr().out.splitlines()) == 2


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


async def test_a_device_above_its_rate_loses_whole_messages_and_its_neighbours_lose_nothing(
    dsn: str, db: Connection
) -> None:
    """Ten times what it may send, beside five devices below the limit."""
    now = 0.0
    entrance = Entrance(dsn, DeviceRate(2, 1000, clock=lambda: now))
    entrance.receive_canary(sent_on=1, generation=1)
    entrance.open()
    for second in range(20):
        now = float(second)
        for n in range(10):
            entrance.door.receive(delivery([event(100 * second + 2 * n + i) for i in range(2)]))
        for name in "bcdef":
            entrance.door.receive(delivery(event(second), topic=f"devices/{name}/telemetry"))
    await until(lambda: len(entrance.settled) == 1 + 20 * 15)
    await until(lambda: entrance.pipeline.idle)
    rows = await db.fetch(
        "select device_id, count(*)::int from event join device using (device_no) group by device_id"
    )
    stored = {row["device_id"]: row["count"] for row in rows}
    assert stored == {"a": 2 * (10 + 19), "b": 20, "c": 20, "d": 20, "e": 20, "f": 20}
    assert entrance.pipeline.counts.dropped[Dropped.RATE_LIMITED] == 400 - stored["a"]
    assert entrance.pipeline.counts.balanced
    assert entrance.pipeline.counts.in_flight == 0
    await entrance.close()


async def test_what_waited_in_the_broker_is_stored_whatever_the_rate(
    dsn: str, db: Connection
) -> None:
    """An older canary, which waited too, does not end the exception; one of this connection does."""
    entrance = Entrance(dsn, DeviceRate(1, 1000, clock=lambda: 0.0))
    entrance.receive_canary(sent_on=1, generation=1)
    entrance.open()
    for n in range(50):
        entrance.door.receive(delivery(event(n), generation=2))
    entrance.receive_canary(sent_on=1, generation=2)
    for n in range(50, 100):
        entrance.door.receive(delivery(event(n), generation=2))
    entrance.receive_canary(sent_on=2, generation=2)
    for n in range(100, 150):
        entrance.door.receive(delivery(event(n), generation=2))
    await until(lambda: len(entrance.settled) == 153)
    assert await db.fetchval("select count(*) from event") == 110
    assert entrance.pipeline.counts.dropped[Dropped.RATE_LIMITED] == 40
    await entrance.close()


async def test_a_retained_message_is_no_sign_of_life(entrance: Entrance, db: Connection) -> None:
    """It may have been planted, or be older than the end of its device."""
    entrance.open()
    for mid, (topic, payload) in enumerate(
        [
            ("devices/a/status", b"online"),
            ("devices/a/heartbeat", b"1"),
            (TOPIC, json.dumps(event(1)).encode()),
        ],
        start=1,
    ):
        entrance.door.receive(Delivery(topic, payload, 1, retain=True, mid=mid, generation=1))
    await until(lambda: len(entrance.settled) == 3)
    assert await db.fetchval("select count(*) from event") == 1
    assert await db.fetchval("select count(*) from presence where last_seen is not null") == 0
    entrance.door.receive(delivery(event(2), mid=4))
    await until(lambda: len(entrance.settled) == 4)
    assert await db.fetchval("select count(*) from presence where last_seen is not null") == 1
