"""What the embedded broker refuses to strangers, and where its limits are."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker import wire
from broker.client.session import Session
from broker.embedded import limits, session_queue
from broker.embedded.router import REFUSED
from runtime.addresses import MqttAddress
from tests.support.brokers.mqtt import (
    PASSWORD,
    Peer,
    RawClient,
    connect_packet,
    embedded_broker,
    send,
    until,
)

OUR_IDS = ("voltwire-ingest", "voltwire-ingest-2", "voltwire-ingest-17", "voltwire-delivery")
OUR_TOPICS = (
    "devices/a/receipts",
    "devices/a/receipts/7",
    "devices/a:b/receipts",
    "alerts/a/1",
    "alerts/a/silent",
    "presence/a",
    "voltwire/voltwire/canary",
    "voltwire/voltwire/canary/2",
    "homeassistant/device/voltwire/devA/config",
)
NOT_AUTHORIZED = (0x20, b"\0\x05")
UNAVAILABLE = (0x20, b"\0\x03")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with embedded_broker() as port:
        yield port


async def response(port: int, sent: bytes) -> tuple[int, bytes] | None:
    """The response to a first packet; the connection must end after a refusal."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.send(sent)
    received = await peer.packet()
    if received is not None and received[1][1]:
        assert await peer.packet() is None
    peer.drop()
    return received


@pytest.mark.parametrize("client_id", OUR_IDS)
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("password", [None, "guessed", PASSWORD[:-1]])
async def test_a_stranger_with_our_client_id_is_refused_and_our_session_stays(
    port: int,
    client_id: str,
    clean: bool,  # noqa: FBT001
    password: str | None,
) -> None:
    ours = await RawClient.connect(port, client_id, clean=False, password=PASSWORD)
    await ours.subscribe("devices/+/telemetry")
    thief = connect_packet(client_id, clean=clean, password=password)
    assert await response(port, thief) == NOT_AUTHORIZED
    await send(port, b"1")
    assert (await ours.message()).payload == b"1"
    ours.drop()

    assert await response(port, thief) == NOT_AUTHORIZED
    ours = await RawClient.connect(port, client_id, clean=False, password=PASSWORD)
    assert ours.session_present
    assert (await ours.message()).payload == b"1"
    ours.disconnect()


@pytest.mark.parametrize(
    "client_id",
    ["voltwire-ingest-x", "xvoltwire-ingest", "voltwire", "ingest", "voltwire-delivery-1"],
)
async def test_a_client_id_that_only_resembles_ours_is_free(port: int, client_id: str) -> None:
    client = await RawClient.connect(port, client_id, password="anything")
    await client.ping()
    client.disconnect()


async def test_a_session_of_another_instance_with_our_password_is_protected_too(port: int) -> None:
    ours = await RawClient.connect(port, "other-ingest", clean=False, password=PASSWORD)
    assert await response(port, connect_packet("other-ingest")) == NOT_AUTHORIZED
    await ours.ping()
    ours.disconnect()


async def test_our_session_does_not_inherit_that_of_a_stranger(port: int) -> None:
    stranger = await RawClient.connect(port, "other-ingest", clean=False)
    await stranger.subscribe("#")
    ours = await RawClient.connect(port, "other-ingest", clean=False, password=PASSWORD)
    assert await stranger.closed()
    assert not ours.session_present
    await send(port, b"1")
    assert await ours.silent(0.2)
    ours.disconnect()


@pytest.mark.parametrize("topic", OUR_TOPICS)
async def test_what_a_stranger_sends_to_our_outgoing_topics_is_acknowledged_and_dropped(
    port: int, topic: str
) -> None:
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe(topic)
    await send(port, b"forged", topic=topic, retain=True)
    thief = await RawClient.connect(port, "thief", will=(topic, b"forged"))
    await thief.publish(topic, b"forged", qos=0, retain=True)
    thief.send(wire.publish(topic, b"forged", qos=2, retain=True, mid=9))
    assert await thief.packet() == (0x50, b"\0\x09")
    thief.drop()
    await send(port, b"ours", topic=topic, retain=True, password=PASSWORD)
    await send(port, b"", topic=topic, retain=True)
    assert (await watcher.message()).payload == b"ours"
    late = await RawClient.connect(port, "late")
    await late.subscribe(topic)
    assert (await late.message()).payload == b"ours"
    late.disconnect()
    watcher.disconnect()


async def test_a_dropped_message_is_logged_once_a_minute(port: int) -> None:
    with capture_logs() as logs:
        await send(port, b"1", b"2", b"3", topic="devices/a/receipts")
    warnings = [each for each in logs if each["log_level"] == "warning"]
    assert [(each["client_id"], each["topic"]) for each in warnings] == [
        ("sender", "devices/a/receipts")
    ]


def test_the_log_of_a_limit_counts_what_it_does_not_show() -> None:
    seconds = iter((100.0, 101.0, 159.0, 160.0))
    log = limits.LimitLog(lambda: next(seconds))
    with capture_logs() as logs:
        for _ in range(4):
            log.report("Refused.")
    assert [each["count"] for each in logs] == [1, 3]


@pytest.mark.parametrize("size", [1, 30])
async def test_connect_has_one_deadline_however_its_bytes_come(
    port: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECT_S_MAX", 0.5)
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    started = monotonic()
    sending = asyncio.create_task(slowly(peer, connect_packet("x" * 1000), size))
    assert await peer.packet() is None
    assert 0.4 < monotonic() - started < 25  # All bytes, one by one, take 50 s.
    sending.cancel()


async def test_a_later_packet_has_a_deadline_too_and_a_silent_client_has_none(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PACKET_S_MAX", 0.5)
    silent = await RawClient.connect(port, "silent", keepalive_s=0)
    slow = await RawClient.connect(port, "slow", keepalive_s=0)
    sending = asyncio.create_task(
        slowly(slow, wire.publish("a", b"x" * 1000, qos=0, retain=False), 1)
    )
    assert await slow.closed()
    sending.cancel()
    await silent.ping()
    silent.disconnect()


async def slowly(peer: Peer, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        peer.send(data[start : start + size])
        await asyncio.sleep(0.05)


async def test_a_first_packet_above_64_kib_ends_the_connection_before_it_is_sent(port: int) -> None:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.send(b"\x10\x81\x80\x04")  # 64 KiB and one byte follow.
    assert await peer.packet() is None
    will = ("devices/a/status", b"x" * 60_000)
    client = await RawClient.connect(port, "a", will=will)
    client.disconnect()


async def test_connections_above_the_limit_are_refused_and_ours_still_get_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(limits, "CONNECTIONS_RESERVE", 1)
    async with embedded_broker() as port:
        clients = [await RawClient.connect(port, f"c{number}") for number in range(3)]
        assert await response(port, connect_packet("c3")) == UNAVAILABLE
        ours = await RawClient.connect(port, OUR_IDS[0], password=PASSWORD)
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        assert await peer.packet() is None
        clients.pop().disconnect()
        clients.pop().disconnect()
        async with asyncio.timeout(60):
            while await response(port, connect_packet("c3")) == UNAVAILABLE:
                pass
        for client in (*clients, ours):
            await client.ping()
            client.disconnect()


async def test_sessions_above_the_limit_are_refused_and_known_ones_return(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    for client_id in ("a", "b"):
        (await RawClient.connect(port, client_id, clean=False)).disconnect()
    assert await response(port, connect_packet("c")) == UNAVAILABLE
    ours = await RawClient.connect(port, OUR_IDS[0], clean=False, password=PASSWORD)
    known = await RawClient.connect(port, "a", clean=False)
    assert known.session_present
    known.disconnect()
    ours.disconnect()


async def test_a_client_has_a_limited_number_of_filters(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.embedded.subscriptions.FILTERS_MAX", 2)
    client = await RawClient.connect(port, "client")
    assert [await client.subscribe(each) for each in ("a", "b", "c", "a")] == [1, 1, REFUSED, 1]
    await client.unsubscribe("a")
    assert await client.subscribe("c") == 1
    client.disconnect()


async def retained_topics(port: int) -> set[str]:
    client = await RawClient.connect(port, "reader")
    await client.subscribe("#")
    await client.ping()
    topics: set[str] = set()
    with suppress(TimeoutError):
        while True:
            topics.add((await client.message(0.2)).topic)
    client.disconnect()
    return topics


async def test_retained_messages_beyond_our_topics_have_a_limit_and_are_still_delivered(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETAINED_OTHER_TOPICS_MAX", 2)
    watcher = await RawClient.connect(port, "watcher")
    await watcher.subscribe("#")
    for topic in ("a", "b", "c", "a", "devices/a/status", "devices/b/status"):
        await send(port, b"1", topic=topic, retain=True)
        assert (await watcher.message()).topic == topic
    await send(port, b"1", topic="alerts/a/1", retain=True, password=PASSWORD)
    ours = {"devices/a/status", "devices/b/status", "alerts/a/1"}
    assert await retained_topics(port) == {"a", "b", *ours}
    await send(port, b"", topic="a", retain=True)
    await send(port, b"1", topic="c", retain=True)
    assert await retained_topics(port) == {"b", "c", *ours}
    watcher.disconnect()


async def test_retained_messages_of_strangers_have_a_limit_in_bytes(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETAINED_BYTES_MAX", 1000)
    await send(port, b"x" * 600, topic="a", retain=True)
    await send(port, b"x" * 600, topic="devices/a/status", retain=True)
    await send(port, b"x" * 600, topic="presence/a", retain=True, password=PASSWORD)
    assert await retained_topics(port) == {"a", "presence/a"}
    await send(port, b"x" * 10, topic="a", retain=True)
    await send(port, b"x" * 600, topic="devices/a/status", retain=True)
    assert await retained_topics(port) == {"a", "devices/a/status", "presence/a"}


async def test_queues_of_strangers_have_a_limit_together_and_give_back_what_a_session_held(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_queue, "OTHERS_BYTES_MAX", 3 * 1000)
    ours = await RawClient.connect(port, "voltwire-ingest", clean=False, password=PASSWORD)
    away = [await RawClient.connect(port, f"away-{n}", clean=False) for n in range(2)]
    for client in (ours, *away):
        await client.subscribe("t")
        client.drop()

    async def waiting(client_id: str, password: str | None = None) -> int:
        client = await RawClient.connect(port, client_id, clean=False, password=password)
        await client.ping()  # The broker answers behind what has waited.
        client.drop()
        return len(client._inbox)

    for _ in range(4):
        await send(port, b"x" * 600, topic="t")
    assert await waiting("voltwire-ingest", PASSWORD) == 4
    assert await waiting("away-0") + await waiting("away-1") == 3
    for n in range(2):  # A clean session deletes the one that was kept.
        (await RawClient.connect(port, f"away-{n}")).disconnect()
    again = await RawClient.connect(port, "away-2", clean=False)
    await again.subscribe("t")
    again.drop()
    for _ in range(4):
        await send(port, b"x" * 600, topic="t")
    assert await waiting("away-2") == 3


@pytest.mark.slow
async def test_the_loop_gives_way_while_retained_messages_are_sent(port: int) -> None:
    """20 subscriptions to 2,000 statuses each: 40,000 deliveries."""
    sender = await RawClient.connect(port, "sender")
    for number in range(2000):
        sender.send(wire.publish(f"devices/{number}/status", b"1", qos=0, retain=True))
    await sender.ping()
    readers = [await RawClient.connect(port, f"r{number}") for number in range(20)]
    for reader in readers:
        body = b"\0\x01" + b"\0\x10devices/+/status\0"
        reader.send(wire.packet(wire.PacketType.SUBSCRIBE << 4 | 2, body))
    assert await turns_until(*(reader.ping() for reader in readers)) > 300
    for client in (sender, *readers):
        client.drop()


@pytest.mark.slow
async def test_the_loop_gives_way_while_messages_go_to_many_clients(port: int) -> None:
    """400 messages to 100 clients each: 40,000 deliveries."""
    readers = [await RawClient.connect(port, f"r{number}") for number in range(100)]
    for reader in readers:
        await reader.subscribe("#")
    sender = await RawClient.connect(port, "sender")
    sender.send(*[wire.publish("a", b"1", qos=1, retain=False, mid=each) for each in range(1, 401)])
    assert await turns_until(sender.ping()) > 300
    for client in (sender, *readers):
        client.drop()


@pytest.mark.parametrize(
    ("packet", "copies"),
    [
        (wire.packet(wire.PacketType.PINGREQ << 4, b""), 20_000),
        (wire.packet(wire.PacketType.PUBREL << 4 | 2, b"\0\x01"), 20_000),
        (wire.publish("a", b"1", qos=2, retain=False, mid=1), 20_000),
        (wire.packet(wire.PacketType.SUBSCRIBE << 4 | 2, b"\0\x01" + b"\0\x01a\0" * 10_000), 2),
        (wire.packet(wire.PacketType.UNSUBSCRIBE << 4 | 2, b"\0\x01" + b"\0\x01a" * 10_000), 2),
    ],
    ids=["PINGREQ", "PUBREL", "PUBLISH again", "SUBSCRIBE", "UNSUBSCRIBE"],
)
async def test_the_loop_gives_way_while_a_client_sends_many_packets_or_filters(
    port: int, packet: bytes, copies: int
) -> None:
    client = await RawClient.connect(port, "client")
    client.send(packet * copies)
    assert await turns_until(client.publish("a", b"behind all of them")) > 150
    client.drop()


async def turns_until(*work: Coroutine[Any, Any, None]) -> int:
    """The iterations of the event loop, which broker and test share, until the work is done."""
    turns, done = 0, asyncio.gather(*work)
    while not done.done():
        turns += 1
        await asyncio.sleep(0)
    await done
    return turns


@pytest.mark.parametrize("password", [None, PASSWORD])
async def test_our_own_sessions_log_in_with_the_password_of_their_address(
    port: int, password: str | None
) -> None:
    address = MqttAddress("127.0.0.1", port, password=password, embedded=True)
    session, stop = Session(address, "voltwire-ingest"), asyncio.Event()
    running = asyncio.create_task(session.run(stop))
    await until(lambda: session.connected or session.last_error)
    assert session.connected is (password is not None)
    stop.set()
    await running


async def test_messages_of_qos_2_that_are_never_released_have_a_limit(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNRELEASED_MAX", 3)
    client = await RawClient.connect(port, "client", clean=False)
    for mid in (1, 2, 3, 3):
        client.send(wire.publish("a", b"1", qos=2, retain=False, mid=mid))
        assert await client.packet() == (0x50, mid.to_bytes(2))
    client.send(wire.packet(0x62, b"\0\x01"), wire.publish("a", b"1", qos=2, retain=False, mid=4))
    assert await client.packet() == (0x70, b"\0\x01")
    assert await client.packet() == (0x50, b"\0\x04")
    client.send(wire.publish("a", b"1", qos=2, retain=False, mid=5))
    assert await client.closed()
