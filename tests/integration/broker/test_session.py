"""A session acknowledges what is settled, reconnects, and reports what it could not publish."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aiomqtt
import pytest
import structlog
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker import topics, wire
from broker.client.delivery import Delivery
from broker.client.packet_tap import READ_BYTES_MAX
from broker.client.session import Session, end_session
from broker.wire import PacketType
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable, StartError
from tests.support.brokers.mosquitto import Mosquitto, mosquitto, require_mosquitto
from tests.support.brokers.mqtt import FILTERS, TOPIC, Ingest, RawClient, running, send, until
from tests.support.brokers.scripted_broker import numbered, scripted_broker

pytestmark = pytest.mark.slow


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    require_mosquitto()
    with mosquitto() as broker:
        yield broker


async def test_nothing_is_acknowledged_before_it_is_settled_and_then_in_order() -> None:
    """What we rely on in aiomqtt and paho: a release that acknowledges early fails here."""
    async with scripted_broker() as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            broker.peers[0].send(numbered(7, 3, 5, 9))
            await until(lambda: len(ingest.got) == 4)
            seven, three, five, nine = ingest.got
            await asyncio.sleep(0.3)
            assert broker.bodies(PacketType.PUBACK) == []

            ingest.session.settle([five, three])
            await asyncio.sleep(0.1)
            assert broker.bodies(PacketType.PUBACK) == []

            ingest.session.settle([seven])
            await until(lambda: len(broker.bodies(PacketType.PUBACK)) == 3)
            assert broker.bodies(PacketType.PUBACK) == [b"\0\x07", b"\0\x03", b"\0\x05"]
            ingest.session.settle([nine])
        assert broker.types(PacketType.PUBACK, PacketType.DISCONNECT)[-2:] == [4, 14]


async def test_a_real_broker_redelivers_unsettled_messages(broker: Mosquitto) -> None:
    first = Ingest(broker.port)
    async with running(first.session):
        await until(lambda: first.session.connected)
        await send(broker.port, b"1", b"2", b"3")
        await until(lambda: len(first.got) == 3)
    second = Ingest(broker.port)
    async with running(second.session):
        await until(lambda: len(second.got) == 3 and second.connections)
    assert second.payloads == [b"1", b"2", b"3"]
    assert second.connections == [True]


async def test_a_settled_message_of_an_earlier_connection_acknowledges_nothing(
    broker: Mosquitto,
) -> None:
    """After a broker lost its state, packet id 1 is another message (docs/failure-modes.md, 14)."""
    ingest = Ingest(broker.port)
    with structlog.testing.capture_logs() as logs:
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            await send(broker.port, b"old")
            await until(lambda: len(ingest.got) == 1)
            broker.kill()
            broker.lose_state()
            broker.start()
            await until(lambda: len(ingest.connections) == 2)
            await send(broker.port, b"new")
            await until(lambda: len(ingest.got) == 2)
            old, new = ingest.got
            assert old.mid == new.mid
            assert old.generation != new.generation
            ingest.session.settle([old])
            await asyncio.sleep(0.2)
    assert ingest.connections == [False, False]
    assert [log["event"] for log in logs if log["log_level"] == "error"] == [
        "The broker forgot our session: messages since then may be lost."
    ]
    again = Ingest(broker.port)
    async with running(again.session):
        await until(lambda: again.got)
    assert again.payloads == [b"new"]


async def test_it_reconnects_after_a_restart_with_the_session_and_its_queue(
    broker: Mosquitto,
) -> None:
    ingest = Ingest(broker.port)
    async with running(ingest.session):
        await until(lambda: ingest.session.connected)
        await send(broker.port, b"1")
        await until(lambda: len(ingest.got) == 1)
        broker.stop()
        await until(lambda: not ingest.session.connected)
        broker.start()
        await send(broker.port, b"2")
        await until(lambda: len(ingest.got) == 3 and len(ingest.connections) == 2)
        ingest.session.settle(ingest.got)
        assert ingest.connections == [False, True]
    assert ingest.payloads == [b"1", b"1", b"2"]


async def test_publishing_while_disconnected_fails_and_works_again_later(broker: Mosquitto) -> None:
    ingest = Ingest(broker.port)
    with pytest.raises(BrokerUnavailable):
        await ingest.session.publish(TOPIC, b"0")
    async with running(ingest.session):
        await until(lambda: ingest.session.connected)
        await ingest.session.publish(TOPIC, b"1")
        broker.stop()
        await until(lambda: not ingest.session.connected)
        with pytest.raises(BrokerUnavailable):
            await ingest.session.publish(TOPIC, b"2")
        broker.start()
        await until(lambda: ingest.session.connected)
        await ingest.session.publish(TOPIC, b"3", qos=0)
        await ingest.session.publish("devices/a/status", b"online", retain=True)
        await until(lambda: b"online" in ingest.payloads)
    assert b"2" not in ingest.payloads
    assert b"3" in ingest.payloads


async def test_many_messages_published_at_once_all_arrive(broker: Mosquitto) -> None:
    ingest = Ingest(broker.port)
    async with running(ingest.session):
        await until(lambda: ingest.session.connected)
        async with asyncio.TaskGroup() as tasks:
            for number in range(2000):
                tasks.create_task(ingest.session.publish(TOPIC, str(number).encode()))
        await until(lambda: len(ingest.got) == 2000)
    assert ingest.payloads == [str(number).encode() for number in range(2000)]


async def test_no_more_messages_are_in_flight_than_the_broker_allows() -> None:
    receive_maximum_2 = b"\x20\x06\0\0\x03\x21\0\x02"  # In CONNACK.
    async with scripted_broker(lambda _: receive_maximum_2) as broker:
        broker.silent.add(PacketType.PUBLISH)
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            publishing = [
                asyncio.create_task(ingest.session.publish(TOPIC, b"1")) for _ in range(3)
            ]
            await asyncio.sleep(0.2)
            assert broker.types(PacketType.PUBLISH) == [PacketType.PUBLISH] * 2
            broker.peers[0].send(wire.pubacks([1]))
            await publishing[0]
            await until(lambda: len(broker.types(PacketType.PUBLISH)) == 3)
        results = await asyncio.gather(*publishing, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), *[BrokerUnavailable] * 2]


async def test_a_publish_fails_at_once_when_the_connection_is_lost_before_the_puback() -> None:
    async with scripted_broker() as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            broker.silent.add(PacketType.PUBLISH)
            publishing = asyncio.create_task(ingest.session.publish(TOPIC, b"1"))
            await until(lambda: PacketType.PUBLISH in broker.types())
            broker.peers[0].drop()
            with pytest.raises(BrokerUnavailable, match="lost before the PUBACK"):
                await asyncio.wait_for(publishing, 60)


async def test_a_message_that_the_broker_refuses_is_reported_with_its_reason() -> None:
    async with scripted_broker() as broker:
        broker.puback = b"\x87\0"
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            with pytest.raises(BrokerUnavailable, match="Not authorized"):
                await ingest.session.publish("devices/b/receipts", b"[]")


async def test_an_error_while_processing_a_message_is_logged_and_stops_nothing() -> None:
    got: list[bytes] = []

    def take(delivery: Delivery) -> None:
        if delivery.payload == b"2":
            raise ValueError
        got.append(delivery.payload)
        session.settle([delivery])

    async with scripted_broker() as broker:
        session = Session(
            MqttAddress("127.0.0.1", broker.port), "x", subscriptions=FILTERS, on_delivery=take
        )
        with structlog.testing.capture_logs() as logs:
            async with running(session):
                await until(lambda: session.connected)
                broker.peers[0].send(numbered(1, 2, 3))
                await until(lambda: len(broker.bodies(PacketType.PUBACK)) == 2)
        assert got == [b"1", b"3"]
        assert broker.bodies(PacketType.PUBACK) == [b"\0\x01", b"\0\x03"]
        assert len(broker.levels) == 1
        assert [log["topic"] for log in logs if log["log_level"] == "error"] == [TOPIC]


async def test_response_topic_and_correlation_data_come_and_go(broker: Mosquitto) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = "devices/a/receipts/1"
    properties.CorrelationData = b"\x01\x02"
    properties.UserProperty = ("unit", "V" * 300)
    ingest = Ingest(broker.port)
    device = aiomqtt.Client("127.0.0.1", broker.port, protocol=ProtocolVersion.V5)
    async with running(ingest.session), device:
        await until(lambda: ingest.session.connected)
        await device.subscribe("devices/a/receipts/#", qos=1)
        await device.publish(TOPIC, b"1", qos=1, properties=properties)
        await until(lambda: ingest.got)
        (delivery,) = ingest.got
        assert delivery.payload == b"1"
        assert delivery.response_topic is not None
        await ingest.session.publish(
            delivery.response_topic, b"[]", correlation_data=delivery.correlation_data
        )
        response = await anext(aiter(device.messages))
    assert str(response.topic) == "devices/a/receipts/1"
    assert response.properties is not None
    assert response.properties.CorrelationData == b"\x01\x02"  # type: ignore[attr-defined]


async def test_the_deepest_topic_that_takes_receipts_costs_no_connection(broker: Mosquitto) -> None:
    deepest = topics.receipts("a") + "/" * (topics.RESPONSE_LEVELS_MAX - 3)
    assert topics.takes_receipts(deepest, "a")
    ingest = Ingest(broker.port)
    async with running(ingest.session):
        await until(lambda: ingest.session.connected)
        await ingest.session.publish(deepest, b"[]")
        await ingest.session.publish(topics.receipts("a"), b"[]")
    assert len(ingest.connections) == 1


async def test_an_aborted_connection_is_replaced_by_a_new_one() -> None:
    async with scripted_broker() as broker:
        ingest = Ingest(broker.port)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            ingest.session.reconnect()
            await until(lambda: len(ingest.connections) == 2)


async def test_an_optional_subscription_that_the_broker_refuses_does_no_harm() -> None:
    async with scripted_broker() as broker:
        broker.refused = b"$SYS/"
        ingest = Ingest(broker.port, optional_subscriptions=("$SYS/x",))
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)


@pytest.mark.parametrize(
    ("connack", "refused"),
    [
        pytest.param(b"\x20\x03\0\0\0", b"$share/", id="it refuses the subscription"),
        pytest.param(b"\x20\x05\0\0\x02\x2a\0", None, id="its CONNACK reports that it has none"),
    ],
)
async def test_a_broker_without_shared_subscriptions_is_an_error_at_start(
    connack: bytes, refused: bytes | None
) -> None:
    async with scripted_broker(lambda _: connack) as broker:
        broker.refused = refused
        address = MqttAddress("127.0.0.1", broker.port)
        session = Session(address, "x", subscriptions=(f"$share/x/{FILTERS[0]}",))
        with pytest.raises(ExceptionGroup) as raised:
            await session.run(asyncio.Event())
    assert raised.group_contains(StartError, match="--workers 1")


async def test_after_unsubscribing_queued_messages_still_arrive(broker: Mosquitto) -> None:
    async with running(Ingest(broker.port).session) as session:
        await until(lambda: session.connected)
    await send(broker.port, b"1", b"2")
    ingest = Ingest(broker.port, receive_maximum=1)
    async with running(ingest.session):
        await until(lambda: ingest.connections == [True] and len(ingest.got) == 1)
        await ingest.session.unsubscribe(FILTERS[0])
        await send(broker.port, b"3")
        await send(broker.port, b"last", topic="devices/a/status")
        while b"last" not in ingest.payloads:
            ingest.session.settle(ingest.got)
            await asyncio.sleep(0.01)
    assert ingest.payloads == [b"1", b"2", b"last"]


async def test_an_ended_session_is_deleted_with_its_queue(broker: Mosquitto) -> None:
    async with running(Ingest(broker.port).session) as session:
        await until(lambda: session.connected)
    await send(broker.port, b"1")
    await end_session(MqttAddress("127.0.0.1", broker.port), "ingest")
    client = await RawClient.connect(broker.port, "ingest", clean=False)
    assert not client.session_present
    assert await client.silent(0.2)
    client.disconnect()


async def test_a_broker_that_sends_more_than_we_allow_is_not_read_until_we_have_settled() -> None:
    """Mosquitto 2.0.11 does so after an outage, and the memory of an ingestor is limited."""
    window, sent = 100, 50_000
    async with scripted_broker() as broker:
        ingest = Ingest(broker.port, receive_maximum=window)
        async with running(ingest.session):
            await until(lambda: ingest.session.connected)
            for number in range(sent):
                payload = b"\0" + str(number).encode()  # No properties.
                broker.peers[0].send(
                    wire.publish(TOPIC, payload, qos=1, retain=False, mid=number % 65_535 + 1)
                )
            await until(lambda: len(ingest.got) > window)
            await asyncio.sleep(0.3)
            one_read = READ_BYTES_MAX // 20
            assert len(ingest.got) <= window + one_read, "read on, though the window was full"
            while len(ingest.got) < sent:
                ingest.session.settle(ingest.got)
                await asyncio.sleep(0.01)
            ingest.session.settle(ingest.got)
            assert ingest.payloads == [str(number).encode() for number in range(sent)]
            await until(lambda: len(broker.types(PacketType.PUBACK)) == sent)
            assert ingest.session.connected


async def _backlog(broker: Mosquitto, messages: int, **options: Any) -> Ingest:
    """A disconnected session with a queue, which Mosquitto sends before its SUBACK."""
    ingest = Ingest(broker.port, **options)
    async with running(ingest.session):
        await until(lambda: ingest.connections)
    sender = Session(MqttAddress("127.0.0.1", broker.port), "sender")
    async with running(sender):
        await until(lambda: sender.connected)
        for start in range(0, messages, 1000):
            async with asyncio.TaskGroup() as tasks:
                for number in range(start, start + 1000):
                    tasks.create_task(sender.publish(TOPIC, str(number).encode()))
    return ingest


async def test_a_backlog_that_takes_longer_than_an_answer_is_received_on_one_connection(
    broker: Mosquitto,
) -> None:
    backlog = 30_000
    ingest = await _backlog(broker, backlog, receive_maximum=200)
    async with running(ingest.session):
        await until(lambda: ingest.session.connected)
        settled = 0
        async with asyncio.timeout(120):
            while settled < backlog:
                some = ingest.got[settled : settled + 100]
                ingest.session.settle(some)
                settled += len(some)
                await asyncio.sleep(0.02)
        await until(lambda: ingest.connections == [False, True])
    assert sorted(map(int, ingest.payloads)) == list(range(backlog))
    assert {delivery.generation for delivery in ingest.got} == {2}


async def test_a_broker_that_is_not_read_for_longer_than_two_keep_alives_is_kept(
    broker: Mosquitto,
) -> None:
    """As when the database fails during a backlog."""
    backlog, window = 5000, 100
    ingest = await _backlog(broker, backlog, receive_maximum=window, keepalive_s=1)
    async with running(ingest.session):
        settled = 0
        while (
            len(ingest.got) - settled <= window
        ):  # It sends more than that only after some PUBACKs.
            ingest.session.settle(ingest.got[settled : settled + 20])
            settled = min(len(ingest.got), settled + 20)
            await asyncio.sleep(0.02)
        await asyncio.sleep(6.5)
        assert ingest.session.connected
        while len(ingest.got) < backlog:
            ingest.session.settle(ingest.got)
            await asyncio.sleep(0.01)
        ingest.session.settle(ingest.got)
        await until(lambda: ingest.connections == [False, True])
    assert {delivery.generation for delivery in ingest.got} == {2}
