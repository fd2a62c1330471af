"""A broker for MQTT 3.1.1 and 5 on loopback whose responses the test defines."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from broker import wire
from broker.wire import PacketType
from tests.support.brokers.mqtt import SUBACK, TOPIC, Peer


def numbered(*mids: int) -> bytes:
    """PUBLISH packets of MQTT 5, each with its packet id as its payload."""
    return b"".join(
        wire.publish(TOPIC, b"\0" + str(mid).encode(), qos=1, retain=False, mid=mid) for mid in mids
    )


class ScriptedBroker:
    """A broker that records what it receives.

    `on_connect` gets the protocol level and returns the CONNACK, b"" (no response) or None (close the
    connection). `puback` follows the packet id in a PUBACK. `granted` is the code in a SUBACK, except
    for filters that contain `refused`.
    """

    def __init__(self, on_connect: Callable[[int], bytes | None]) -> None:
        self.port = 0
        self.levels: list[int] = []
        self.got: list[tuple[int, bytes]] = []
        self.peers: list[Peer] = []
        self.silent: set[int] = set()
        self.puback, self.granted = b"", b"\x01"
        self.refused: bytes | None = None
        self._on_connect = on_connect

    def types(self, *wanted: int) -> list[int]:
        return [first >> 4 for first, _ in self.got if not wanted or first >> 4 in wanted]

    def bodies(self, packet_type: int) -> list[bytes]:
        return [body for first, body in self.got if first >> 4 == packet_type]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        while (packet := await peer.packet(60)) is not None:
            self.got.append(packet)
            response = b"" if packet[0] >> 4 in self.silent else self._response(*packet)
            if response is None:
                break
            peer.send(response)
        peer.drop()

    def _response(self, first: int, body: bytes) -> bytes | None:
        """The response; None closes the connection."""
        match first >> 4:
            case PacketType.CONNECT:
                self.levels.append(body[6])
                return self._on_connect(body[6])
            case PacketType.SUBSCRIBE:
                properties = b"\0" if self.levels[-1] > 4 else b""
                refused = self.refused is not None and self.refused in body
                code = b"\x87" if refused else self.granted
                return wire.packet(SUBACK << 4, body[:2] + properties + code)
            case PacketType.PUBLISH:
                mid = wire.parse_publish(first, body)[-1].to_bytes(2)
                return wire.packet(PacketType.PUBACK << 4, mid + self.puback)
            case PacketType.PINGREQ:
                return wire.packet(PacketType.PINGRESP << 4, b"")
        return b""


def accept(level: int) -> bytes:
    """A CONNACK that accepts, with no session present."""
    return b"\x20\x03\0\0\0" if level > 4 else b"\x20\x02\0\0"


@asynccontextmanager
async def scripted_broker(
    on_connect: Callable[[int], bytes | None] = accept,
    certificate: tuple[Path, Path] | None = None,
) -> AsyncIterator[ScriptedBroker]:
    broker = ScriptedBroker(on_connect)
    serving: set[asyncio.Task[None]] = set()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(broker.serve(reader, writer)))

    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for peer in broker.peers:
            peer.drop()
        await asyncio.gather(*serving)
