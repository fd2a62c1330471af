"""What Voltwire expects of a broker: the same for the embedded one and for Mosquitto."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from broker import wire
from broker.embedded import server
from broker.embedded.rights import Access
from broker.embedded.router import REFUSED
from runtime.errors import StartError
from tests.support.brokers.mosquitto import mosquitto, require_mosquitto
from tests.support.brokers.mqtt import (
    PASSWORD,
    Ingest,
    Peer,
    RawClient,
    connect_packet,
    embedded_broker,
    running,
    send,
    until,
)
from tests.support.processes.services import temporary_folder


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
    assert (await watcher.message()).payload == b"offline"
    assert monotonic() - last_ping > 2
    assert await client.closed()
    watcher.disconnect()


async def test_retained_messages_come_only_for_own_filters_and_only_with_a_subscription(
    port: int,
) -> None:
    other = await RawClient.connect(port, "other")
    await other.subscribe("alerts/#")
    await send(port, b"alert", topic="alerts/a/1", retain=True, password=PASSWORD)
    await send(port, b"presence", topic="presence/a", retain=True, password=PASSWORD)

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
    await send(port, b"firing", b"", topic="alerts/a/1", retain=True, password=PASSWORD)
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


MID = b"\0\x07"
A = b"\0\x01a"  # The topic "a".

MALFORMED = {
    "a SUBSCRIBE without topics": b"\x82\x02" + MID,
    "a SUBSCRIBE with QoS 3": b"\x82\x06" + MID + A + b"\x03",
    "a SUBSCRIBE with wrong flags": b"\x80\x06" + MID + A + b"\x01",
    "a SUBSCRIBE with packet id 0": b"\x82\x06\0\0" + A + b"\x01",
    "a SUBSCRIBE without a packet id": b"\x82\x00",
    "a SUBSCRIBE that is cut off": b"\x82\x05" + MID + A,
    "a SUBSCRIBE to an empty filter": b"\x82\x05" + MID + b"\0\0\x01",
    "a SUBSCRIBE to a#": b"\x82\x07" + MID + b"\0\x02a#\x01",
    "a SUBSCRIBE to #/a": b"\x82\x08" + MID + b"\0\x03#/a\x01",
    "a SUBSCRIBE to a+": b"\x82\x07" + MID + b"\0\x02a+\x01",
    "a SUBSCRIBE whose filter is not UTF-8": b"\x82\x07" + MID + b"\0\x02\xff\xfe\x01",
    "an UNSUBSCRIBE without topics": b"\xa2\x02" + MID,
    "an UNSUBSCRIBE with wrong flags": b"\xa0\x05" + MID + A,
    "an UNSUBSCRIBE with packet id 0": b"\xa2\x05\0\0" + A,
    "a PUBLISH that ends within its topic": b"\x30\x05\xff\xffabc",
    "a PUBLISH without a topic": b"\x30\x00",
    "a PUBLISH to an empty topic": b"\x30\x03\0\0x",
    "a PUBLISH to a wildcard": b"\x30\x04\0\x02a#",
    "a PUBLISH to a topic with NUL": b"\x30\x05\0\x03a\0b",
    "a PUBLISH to a topic that is not UTF-8": b"\x30\x04\0\x02\xc3\x28",
    "a PUBLISH to a topic with a surrogate": b"\x30\x05\0\x03\xed\xa0\x80",
    "a PUBLISH to a topic of 202 levels": wire.publish("/" * 201, b"", qos=0, retain=False),
    "a PUBLISH with QoS 3": b"\x36\x06" + A + MID + b"x",
    "a PUBLISH with packet id 0": b"\x32\x06" + A + b"\0\0x",
    "a PUBLISH that ends before its packet id": b"\x32\x04" + A + b"\0",
    "a PUBACK with packet id 0": b"\x40\x02\0\0",
    "a PUBACK that is cut off": b"\x40\x01\x01",
    "a PUBREL with wrong flags": b"\x60\x02" + MID,
    "a second CONNECT": connect_packet("client"),
    "a CONNACK": b"\x20\x02\0\0",
    "packet type 0": b"\0\0",
    "packet type 15": b"\xf0\x00",
    "a length of five digits": b"\x30\xff\xff\xff\xff\x01",
}
# Mosquitto 2.0.11 lets these pass.
MALFORMED_FOR_US = {
    "a SUBACK": b"\x90\x03" + MID + b"\x01",
    "a PUBLISH with DUP and QoS 0": b"\x38\x04" + A + b"x",
    "a PINGREQ with a body": b"\xc0\x01\0",
    "a DISCONNECT with a body": b"\xe0\x01\0",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_packet_ends_the_connection(port: int, sent: bytes) -> None:
    client = await RawClient.connect(port, "client")
    client.send(sent)
    assert await client.closed()


@pytest.mark.parametrize("sent", MALFORMED_FOR_US.values(), ids=MALFORMED_FOR_US)
async def test_a_packet_that_only_the_standard_calls_malformed_ends_the_connection(
    sent: bytes,
) -> None:
    async with embedded_broker() as port:
        client = await RawClient.connect(port, "client")
        client.send(sent)
        assert await client.closed()


def connect_body(flags: int, *fields: bytes, name: bytes = b"MQTT\x04") -> bytes:
    body = b"\0\x04" + name + bytes((flags,)) + b"\0\x3c" + b"".join(fields)
    return wire.packet(wire.PacketType.CONNECT << 4, body)


MALFORMED_FIRST = {
    "a PUBLISH": b"\x30\x04" + A + b"x",
    "a PINGREQ": b"\xc0\x00",
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unknown protocol": connect_body(2, A, name=b"HTTP\x04"),
    "the reserved flag": connect_body(3, A),
    "a will with QoS 3": connect_body(0b11110, A, A, A),
    "a will's QoS without a will": connect_body(0b01010, A),
    "a will's retain flag without a will": connect_body(0b100010, A),
    "a will to a wildcard": connect_body(0b110, A, b"\0\x02a#", A),
    "a will that is missing": connect_body(0b110, A),
    "a client id that is not UTF-8": connect_body(2, b"\0\x02\xc3\x28"),
    "a client id that is cut off": connect_body(2, b"\0\x05a"),
    "wrong flags": b"\x11" + connect_packet("client")[1:],
}


@pytest.mark.parametrize("sent", MALFORMED_FIRST.values(), ids=MALFORMED_FIRST)
async def test_a_malformed_first_packet_ends_the_connection(port: int, sent: bytes) -> None:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.send(sent)
    assert await peer.packet() is None


REFUSED_FIRST = {
    "level 3 with the name of 3.1.1": (connect_packet("client", level=3), 1),
    "level 4 with the name of 3.1": (connect_packet("client", name="MQIsdp"), 1),
    "level 6": (connect_packet("client", level=6), 1),
    "a lasting session without a client id": (connect_packet("", clean=False), 2),
    "MQTT 3.1 without a client id": (connect_packet("", name="MQIsdp", level=3), 2),
}


@pytest.mark.parametrize(("sent", "code"), REFUSED_FIRST.values(), ids=REFUSED_FIRST)
async def test_a_connect_that_is_not_accepted_is_answered_with_the_reason(
    port: int, sent: bytes, code: int
) -> None:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.send(sent)
    assert await peer.packet() == (0x20, bytes((0, code)))
    assert await peer.packet() is None


async def test_a_client_of_mqtt_3_1_is_accepted_and_resumes_its_session(port: int) -> None:
    for _ in range(2):
        client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
        client.send(connect_packet("client", clean=False, name="MQIsdp", level=3))
        assert await client.packet() == (0x20, b"\0\0")  # It knows no "session present".
        await client.subscribe("a")
        await client.publish("a", b"1")
        assert (await client.message()).payload == b"1"
        client.disconnect()


async def test_a_client_without_an_id_gets_one(port: int) -> None:
    for _ in range(2):
        client = await RawClient.connect(port, "")
        await client.publish("a", b"1")
        client.disconnect()


async def test_packets_right_behind_connect_are_handled(port: int) -> None:
    """A client need not wait for CONNACK; a large PUBLISH may share a chunk with CONNECT."""
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("a")
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    large = wire.publish("a", b"x" * 100_000, qos=1, retain=False, mid=1)
    peer.send(connect_packet("client") + large)
    assert await peer.packet() == (0x20, b"\0\0")
    assert await peer.packet() == (0x40, b"\0\x01")
    assert len((await watcher.message()).payload) == 100_000
    peer.drop()
    watcher.disconnect()


FILTERS = {
    "#": {"a", "a/b", "/", "a/b/c"},
    "a/#": {"a", "a/b", "a/b/c"},
    "+": {"a"},
    "+/+": {"/", "a/b"},
    "a/+": {"a/b"},
    "a/+/c": {"a/b/c"},
    "+/b/#": {"a/b", "a/b/c"},
    "a/b": {"a/b"},
}


@pytest.mark.parametrize(("topic_filter", "expected"), FILTERS.items())
async def test_a_filter_matches_live_and_retained_messages_alike(
    port: int, topic_filter: str, expected: set[str]
) -> None:
    published = sorted(set().union(*FILTERS.values()))
    client = await RawClient.connect(port, "client")
    await client.subscribe(topic_filter)
    for topic in published:
        await client.publish(topic, b"1", retain=True)
    assert {(await client.message()).topic for _ in expected} == expected
    await client.unsubscribe(topic_filter)
    await client.publish(published[0], b"2", retain=True)
    await client.subscribe(topic_filter)
    assert {(await client.message()).topic for _ in expected} == expected
    assert await client.silent(0.1)
    client.disconnect()


@pytest.fixture(params=["embedded", "mosquitto"])
async def guarded_port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """A broker where strangers may only read the topics that Voltwire writes."""
    if request.param == "embedded":
        async with embedded_broker() as port:
            yield port
        return
    require_mosquitto()
    with temporary_folder() as folder:
        acl = folder / "acl"
        acl.write_text("topic read alerts/#\ntopic readwrite devices/+/status\n")
        with mosquitto({"sys_interval": f"30\nacl_file {acl}"}) as broker:
            yield broker.port


async def test_a_message_to_a_topic_that_others_write_is_acknowledged_and_dropped(
    guarded_port: int,
) -> None:
    watcher = await RawClient.connect(guarded_port, "watcher")
    await watcher.subscribe("alerts/#")
    await watcher.subscribe("devices/+/status")
    await send(guarded_port, b"forged", topic="alerts/a/1", retain=True)
    await send(guarded_port, b"online", topic="devices/a/status")
    assert (await watcher.message()).payload == b"online"
    assert await watcher.silent(0.2)
    watcher.disconnect()


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
            await server.run("127.0.0.1", port, asyncio.Event(), Access("voltwire", None))


async def test_the_embedded_broker_refuses_mqtt_5_with_a_reason() -> None:
    async with embedded_broker() as port:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        peer.send(connect_packet("client", level=5))
        assert await peer.packet() == (0x20, b"\0\x01")  # Unacceptable protocol version.
        assert await peer.packet() is None


async def test_the_embedded_broker_refuses_shared_subscriptions() -> None:
    async with embedded_broker() as port:
        client = await RawClient.connect(port, "client")
        assert await client.subscribe("$share/group/devices/+/telemetry") == REFUSED
        client.disconnect()


async def test_the_embedded_broker_stops_with_clients_connected_and_connecting() -> None:
    async with embedded_broker() as port:
        client = await RawClient.connect(port, "client")
        silent = Peer(*await asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(0.1)
    assert await client.closed()
    assert await silent.packet() is None
