"""What Voltwire expects of a broker: the same for the embedded one and for Mosquitto."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from broker import wire
from broker.embedded import server
from runtime.errors import StartError
from tests.support.mosquitto import mosquitto, require_mosquitto
from tests.support.mqtt import (
    Ingest,
    Peer,
    RawClient,
    connect_packet,
    embedded_broker,
    running,
    send,
    until,
)


@pytest.fixture(params=["embedded", "mosquitto"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    if request.param == "embedded":
        async with embedded_broker() as port:
            yield port
        return
    require_mosquitto()
    with mosquitto() as broker:
        yield broker.port


async def subscriber(port: int, topic_filter: str = "devices/+/telemetry") -> RawClient:
    """A client with a persistent session and without a user name."""
    client = await RawClient.connect(port, "subscriber", clean=False)
    if not client.session_present:
        assert await client.subscribe(topic_filter) == 1
    return client


async def test_an_unacknowledged_message_is_redelivered_after_a_reconnect_with_dup(
    port: int,
) -> None:
    client = await subscriber(port)
    await send(port, b"1", b"2")
    first, second = await client.message(), await client.message()
    assert not first.dup
    await client.acknowledge(second)
    client.drop()

    client = await subscriber(port)
    again = await client.message()
    assert (again.payload, again.dup) == (b"1", True)
    assert await client.silent(0.3)
    await client.acknowledge(again)
    client.drop()

    client = await subscriber(port)
    assert await client.silent(0.3)
    client.disconnect()


@pytest.mark.slow
async def test_an_unacknowledged_message_is_held_for_long_and_not_repeated_meanwhile(
    port: int,
) -> None:
    client = await subscriber(port)
    await send(port, b"1")
    await client.message()
    assert await client.silent(6)
    client.drop()

    client = await subscriber(port)
    assert (await client.message()).payload == b"1"
    assert await client.silent(0.3)
    client.disconnect()


async def test_messages_wait_in_order_for_a_client_that_is_away(port: int) -> None:
    (await subscriber(port)).disconnect()
    payloads = [str(number).encode() for number in range(50)]
    await send(port, *payloads, retain=True)

    client = await subscriber(port)
    assert client.session_present
    messages = [await client.message() for _ in payloads]
    assert [message.payload for message in messages] == payloads
    assert not any(message.retain or message.dup for message in messages)
    assert await client.silent(0.3)
    client.disconnect()


async def test_a_clean_session_forgets_subscriptions_and_messages(port: int) -> None:
    (await subscriber(port)).disconnect()
    await send(port, b"1")
    client = await RawClient.connect(port, "subscriber", clean=True)
    assert not client.session_present
    assert await client.silent(0.3)
    client.disconnect()
    client = await RawClient.connect(port, "subscriber", clean=False)
    assert not client.session_present
    client.disconnect()


async def test_a_dropped_connection_publishes_the_will_retained_every_time(port: int) -> None:
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("devices/+/status")
    for round_number in (b"1", b"2"):
        will = ("devices/a/status", b"offline " + round_number)
        client = await RawClient.connect(port, "a", clean=False, will=will)
        client.drop()
        live = await watcher.message()
        assert (live.payload, live.retain) == (will[1], False)
        late = await RawClient.connect(port, "late")
        await late.subscribe("devices/+/status")
        kept = await late.message()
        assert (kept.payload, kept.retain) == (will[1], True)
        late.disconnect()
    watcher.disconnect()


async def test_a_disconnect_cancels_the_will(port: int) -> None:
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("devices/+/status")
    client = await RawClient.connect(port, "a", will=("devices/a/status", b"offline"))
    client.disconnect()
    assert await watcher.silent(0.3)
    watcher.disconnect()


@pytest.mark.slow
async def test_a_silent_client_is_disconnected_after_its_keepalive_and_its_will_published(
    port: int,
) -> None:
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("devices/+/status")
    will = ("devices/a/status", b"offline")
    client = await RawClient.connect(port, "a", keepalive_s=2, will=will)
    await asyncio.sleep(1)
    await client.ping()
    last_ping = monotonic()
    assert (await watcher.message(timeout_s=10)).payload == b"offline"
    assert 2 < monotonic() - last_ping < 10  # Mosquitto checks every 5 s.
    assert await client.closed()
    watcher.disconnect()


async def test_retained_messages_come_only_for_own_filters_and_only_with_a_subscription(
    port: int,
) -> None:
    other = await RawClient.connect(port, "other")
    await other.subscribe("alerts/#")
    await send(port, b"alert", topic="alerts/a/1", retain=True)
    await send(port, b"presence", topic="presence/a", retain=True)

    client = await subscriber(port, "presence/+")
    message = await client.message()
    assert (message.payload, message.retain) == (b"presence", True)
    await client.acknowledge(message)
    assert await client.silent(0.3)
    client.drop()

    client = await subscriber(port)
    assert await client.silent(0.3)
    client.disconnect()
    other.disconnect()


async def test_an_empty_retained_message_clears_the_topic(port: int) -> None:
    await send(port, b"firing", b"", topic="alerts/a/1", retain=True)
    client = await RawClient.connect(port, "client")
    await client.subscribe("alerts/#")
    assert await client.silent(0.3)
    client.disconnect()


async def test_a_second_connection_of_a_client_ends_the_first_and_goes_on(port: int) -> None:
    first = await subscriber(port)
    await send(port, b"1")
    await first.message()
    second = await subscriber(port)
    assert await first.closed()
    assert second.session_present
    assert (await second.message()).payload == b"1"
    second.disconnect()


@pytest.mark.parametrize(("published", "granted"), [(0, 1), (1, 0), (1, 1), (0, 0)])
async def test_a_message_comes_with_the_lower_qos_of_the_two(
    port: int, published: int, granted: int
) -> None:
    client = await RawClient.connect(port, "client")
    assert await client.subscribe("a/#", granted) == granted
    await client.publish("a/b", b"live", qos=published)
    assert (await client.message()).qos == min(published, granted)
    client.disconnect()


async def test_overlapping_filters_bring_one_copy_and_an_unsubscribed_one_none(port: int) -> None:
    client = await RawClient.connect(port, "client")
    await client.subscribe("a/#", 0)
    await client.subscribe("a/+", 1)
    await client.publish("a/b", b"1")
    assert (await client.message()).qos == 1
    assert await client.silent(0.3)
    await client.unsubscribe("a/#")
    await client.unsubscribe("a/+")
    await client.publish("a/b", b"2")
    assert await client.silent(0.3)
    client.disconnect()


async def test_a_qos_2_message_that_is_sent_twice_arrives_once(port: int) -> None:
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("a")
    client = await RawClient.connect(port, "client")
    for dup in (False, True):
        client.send(wire.publish("a", b"1", qos=2, retain=False, mid=7, dup=dup))
        assert await client.packet() == (wire.PacketType.PUBREC << 4, b"\0\x07")
    client.send(wire.packet(wire.PacketType.PUBREL << 4 | 2, b"\0\x07"))
    assert await client.packet() == (wire.PacketType.PUBCOMP << 4, b"\0\x07")
    assert (await watcher.message()).payload == b"1"
    assert await watcher.silent(0.3)
    client.disconnect()
    watcher.disconnect()


async def test_a_large_message_passes_and_an_oversized_one_ends_the_connection(port: int) -> None:
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("a")
    client = await RawClient.connect(port, "client")
    await client.publish("a", b"x" * 1_000_000)
    assert len((await watcher.message()).payload) == 1_000_000
    client.send(b"\x32\xff\xff\xff\x7f\x00\x01a")  # The remaining length is 256 MiB.
    assert await client.closed()
    watcher.disconnect()


async def test_a_topic_with_a_wildcard_ends_the_connection(port: int) -> None:
    client = await RawClient.connect(port, "client")
    client.send(wire.publish("devices/+/telemetry", b"1", qos=1, retain=False, mid=1))
    assert await client.closed()


@pytest.mark.slow
async def test_our_session_acknowledges_what_is_settled_and_nothing_else(port: int) -> None:
    assert await taken(port, expected=0) == []
    await send(port, b"1", b"2", b"3")
    assert await taken(port, expected=3, settled=2) == [b"1", b"2", b"3"]
    assert await taken(port, expected=1, settled=1) == [b"3"]
    assert await taken(port, expected=0) == []


async def taken(port: int, *, expected: int, settled: int = 0) -> list[bytes]:
    """What a session receives on one connection, on which it settles the first `settled`."""
    ingest = Ingest(port)
    session = ingest.session
    async with running(session):
        await until(lambda: session.connected and len(ingest.got) >= expected)
        await asyncio.sleep(0.3)
        session.settle(ingest.got[:settled])
    return ingest.payloads


async def test_the_embedded_broker_reports_that_its_port_is_taken() -> None:
    async with embedded_broker() as port:
        with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*MQTT_PORT"):
            await server.run("127.0.0.1", port, asyncio.Event())


async def test_the_embedded_broker_refuses_mqtt_5_with_a_reason() -> None:
    async with embedded_broker() as port:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        peer.send(connect_packet("client", level=5))
        assert await peer.packet() == (0x20, b"\0\x01")  # Unacceptable protocol version.
        assert await peer.packet() is None


async def test_the_embedded_broker_refuses_shared_subscriptions() -> None:
    async with embedded_broker() as port:
        client = await RawClient.connect(port, "client")
        assert await client.subscribe("$share/group/devices/+/telemetry") == server.REFUSED
        client.disconnect()


async def test_the_embedded_broker_stops_with_clients_connected_and_connecting() -> None:
    async with embedded_broker() as port:
        client = await RawClient.connect(port, "client")
        silent = Peer(*await asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(0.1)
    assert await client.closed()
    assert await silent.packet() is None
