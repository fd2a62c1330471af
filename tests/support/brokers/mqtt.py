"""A hand-written MQTT 3.1.1 client that does nothing by itself, and sessions that record messages."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

from broker import wire
from broker.client.delivery import Delivery
from broker.client.session import Session
from broker.embedded import server
from broker.embedded.accounts import AccountChange, Accounts
from broker.embedded.rights import Access
from broker.wire import PacketType
from runtime.addresses import MqttAddress

ANSWER_S_MAX = 30
CONNACK, SUBACK, UNSUBACK = 2, 9, 11
TOPIC = "devices/a/telemetry"
PASSWORD = "the password of our own sessions"
FILTERS = ("devices/+/telemetry", "devices/+/status")


class Received(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    dup: bool


class Peer:
    """Packets over one TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._framer = wire.PacketFramer()
        self._packets: deque[tuple[int, bytes]] = deque()

    async def packet(self, timeout_s: float = ANSWER_S_MAX) -> tuple[int, bytes] | None:
        """The next packet; None when the other side closed."""
        async with asyncio.timeout(timeout_s):
            while not self._packets:
                chunk = await self._chunk()
                if not chunk:
                    self.drop()
                    return None
                self._packets.extend(self._framer.split(chunk))
        return self._packets.popleft()

    async def _chunk(self) -> bytes:
        try:
            return await self._reader.read(65_536)
        except ConnectionError:
            return b""

    def send(self, *packets: bytes) -> None:
        self._writer.write(b"".join(packets))

    def drop(self) -> None:
        """End the connection without DISCONNECT."""
        self._writer.transport.abort()


class RawClient(Peer):
    """A client that acknowledges and sends PINGREQ only on request."""

    session_present = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._inbox: deque[Received] = deque()
        self._mid = 0

    @classmethod
    async def connect(
        cls,
        port: int,
        client_id: str,
        *,
        clean: bool = True,
        keepalive_s: int = 60,
        will: tuple[str, bytes] | None = None,
        password: str | None = None,
        username: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect. A will is retained and of QoS 1."""
        name = "localhost" if tls else None
        client = cls(
            *await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        )
        client.send(
            connect_packet(
                client_id,
                clean=clean,
                keepalive_s=keepalive_s,
                will=will,
                password=password,
                username=username,
            )
        )
        try:
            body = await client._response(CONNACK)
            assert body[1] == 0, f"refused: {body[1]}"
        except BaseException:
            client.drop()
            raise
        client.session_present = bool(body[0])
        return client

    async def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """The granted QoS."""
        mid = self._next_mid()
        body = mid.to_bytes(2) + _text(topic_filter) + bytes((qos,))
        self.send(wire.packet(PacketType.SUBSCRIBE << 4 | 2, body))
        return (await self._response(SUBACK))[2]

    async def unsubscribe(self, topic_filter: str) -> None:
        body = self._next_mid().to_bytes(2) + _text(topic_filter)
        self.send(wire.packet(PacketType.UNSUBSCRIBE << 4 | 2, body))
        await self._response(UNSUBACK)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> None:
        mid = self._next_mid()
        self.send(wire.publish(topic, payload, qos=qos, retain=retain, mid=mid))
        if qos == 1:
            assert int.from_bytes((await self._response(PacketType.PUBACK))[:2]) == mid

    async def try_to_publish(self, topic: str, *, qos: int = 1, retain: bool = False) -> None:
        """Return once the broker has handled it. Mosquitto 2.0.11 ends the connection if it is denied."""
        self.send(wire.publish(topic, b"1", qos=qos, retain=retain, mid=self._next_mid()))
        self.send(wire.packet(PacketType.PINGREQ << 4, b""))
        while (packet := await self._read(ANSWER_S_MAX)) is not None:
            if packet[0] >> 4 == PacketType.PINGRESP:
                return

    async def message(self, timeout_s: float = ANSWER_S_MAX) -> Received:
        while not self._inbox:
            assert await self._read(timeout_s) is not None, "the connection was closed"
        return self._inbox.popleft()

    @property
    def waiting(self) -> int:
        """Messages that were read and not yet taken."""
        return len(self._inbox)

    def taken(self) -> Received:
        return self._inbox.popleft()

    async def silent(self, seconds: float) -> bool:
        """Whether no message comes in this time."""
        try:
            await self.message(seconds)
        except TimeoutError:
            return True
        return False

    async def closed(self, timeout_s: float = ANSWER_S_MAX) -> bool:
        """Whether the broker ends the connection in this time."""
        try:
            while await self._read(timeout_s) is not None:
                pass
        except TimeoutError:
            return False
        return True

    async def acknowledge(self, message: Received) -> None:
        self.send(wire.pubacks((message.mid,)))
        await self.ping()  # The broker answers in order, so it has the PUBACK by then.

    async def ping(self) -> None:
        self.send(wire.packet(PacketType.PINGREQ << 4, b""))
        await self._response(PacketType.PINGRESP)

    def disconnect(self) -> None:
        self.send(wire.packet(PacketType.DISCONNECT << 4, b""))
        self._writer.close()

    async def _response(self, packet_type: int) -> bytes:
        while (packet := await self._read(ANSWER_S_MAX)) is not None:
            if packet[0] >> 4 == packet_type:
                return packet[1]
        raise AssertionError(f"closed without a response of type {packet_type}")

    async def _read(self, timeout_s: float) -> tuple[int, bytes] | None:
        packet = await self.packet(timeout_s)
        if packet is not None and packet[0] >> 4 == PacketType.PUBLISH:
            dup = bool(packet[0] & 8)
            self._inbox.append(Received(*wire.parse_publish(*packet), dup))
        return packet

    def _next_mid(self) -> int:
        self._mid += 1
        return self._mid


def connect_packet(
    client_id: str,
    *,
    clean: bool = True,
    keepalive_s: int = 60,
    will: tuple[str, bytes] | None = None,
    level: int = 4,
    name: str = "MQTT",
    password: str | None = None,
    username: str | None = None,
) -> bytes:
    """With a password, the client id is also the user name, unless that is given."""
    flags = clean << 1 | (0b101100 if will else 0) | (0xC0 if password is not None else 0)
    properties = b"\0" if level > 4 else b""
    body = _text(name) + bytes((level, flags)) + keepalive_s.to_bytes(2)
    body += properties + _text(client_id)
    if will is not None:
        body += _text(will[0]) + len(will[1]).to_bytes(2) + will[1]
    if password is not None:
        body += _text(client_id if username is None else username) + _text(password)
    return wire.packet(PacketType.CONNECT << 4, body)


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()


@asynccontextmanager
async def embedded_broker(
    port: int = 0,
    changes: AsyncIterator[AccountChange] | None = None,
    *,
    ha_discovery: bool = False,
) -> AsyncIterator[int]:
    """Run the embedded broker in the loop of the test; yield its port.

    With `changes` of its accounts, authentication is on.
    """
    stop = asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    accounts = None if changes is None else Accounts()
    access = Access("voltwire", PASSWORD, accounts, ha_discovery=ha_discovery)
    running = asyncio.create_task(
        server.run("127.0.0.1", port, stop, access, changes, on_ready=ready.set_result)
    )
    try:
        yield await ready
    finally:
        stop.set()
        await running


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[Session]:
    """Run the session; at the end it disconnects as when the program stops."""
    stop = asyncio.Event()
    task = asyncio.create_task(session.run(stop))
    try:
        yield session
    finally:
        stop.set()
        async with asyncio.timeout(ANSWER_S_MAX * 2):
            await task


async def until(condition: Callable[[], object], timeout_s: float = ANSWER_S_MAX * 2) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # Conditions of any kind.
            await asyncio.sleep(0.01)


class Ingest:
    """A session that records its messages and connections."""

    def __init__(self, port: int, **options: Any) -> None:
        self.got: list[Delivery] = []
        self.connections: list[bool] = []
        self.session = Session(
            MqttAddress("127.0.0.1", port),
            "ingest",
            subscriptions=FILTERS,
            on_delivery=self.got.append,
            on_connected=self._connected,
            **options,
        )

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.got]

    async def _connected(self, session_present: bool) -> None:  # noqa: FBT001
        self.connections.append(session_present)


async def send(
    port: int,
    *payloads: bytes,
    topic: str = TOPIC,
    retain: bool = False,
    password: str | None = None,
) -> None:
    """Publish, wait for the PUBACKs, and disconnect."""
    client = await RawClient.connect(port, "sender", password=password)
    for payload in payloads:
        await client.publish(topic, payload, retain=retain)
    client.disconnect()
