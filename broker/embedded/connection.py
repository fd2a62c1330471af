"""One client of the embedded broker: its connection and the queue of its session."""

import asyncio
from collections import deque
from typing import Any

import structlog
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler

from broker import wire
from broker.embedded import limits
from broker.embedded.rights import Login
from broker.embedded.session_queue import QueuedMessage, SessionQueue

READ_BYTES_MAX = 65_536
FINISH_S_MAX = 5
CONNECT = bytes((wire.PacketType.CONNECT << 4,))
BACKLOG_BYTES_MAX = 1024 * 1024  # A client that lags this far behind misses messages of QoS 0.

log = structlog.get_logger()


class PacketStream:
    """A TCP connection read as whole packets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._framer = wire.PacketFramer(first_bytes_max=limits.SMALL_PACKET_BYTES_MAX)
        self._packets: deque[tuple[int, bytes]] = deque()
        self.only_ours = False  # The last free places are for Voltwire's own sessions.

    @property
    def backlog_bytes(self) -> int:
        return 0 if self._writer.is_closing() else self._writer.transport.get_write_buffer_size()

    async def first_packet(self) -> tuple[int, bytes] | None:
        """CONNECT, with one deadline however slowly its bytes come; None at the end."""
        async with asyncio.timeout(limits.CONNECT_S_MAX):
            while not self._packets:
                if not await self._receive(None):
                    return None
                if self._framer.incomplete not in {b"", CONNECT} and not self._packets:
                    raise ConnectionError("The first packet is not CONNECT.")
        return self._packets.popleft()

    async def packet(self, idle_s_max: float | None) -> tuple[int, bytes] | None:
        """The next packet; None at the end. Raises TimeoutError and ConnectionError."""
        if (
            not self._packets
            and not self._framer.incomplete
            and not await self._receive(idle_s_max)
        ):
            return None
        if self._packets:
            return self._packets.popleft()
        async with asyncio.timeout(limits.PACKET_S_MAX):
            while not self._packets:
                if not await self._receive(idle_s_max):
                    return None
        return self._packets.popleft()

    async def _receive(self, idle_s_max: float | None) -> bool:
        """False at the end. Nothing is read from a client while it does not read its own responses."""
        async with asyncio.timeout(idle_s_max):
            await self._writer.drain()
            chunk = await self._reader.read(READ_BYTES_MAX)
        self._packets.extend(self._framer.split(chunk))
        return bool(chunk)

    def write(self, data: bytes) -> None:
        """Ignore data for a broken connection: uvloop would raise in the task of the sender."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def finish(self, last: bytes) -> None:
        """Send the last bytes, and close the connection."""
        self.write(last)
        self._writer.close()
        async with asyncio.timeout(FINISH_S_MAX):
            await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()


class ClientConnection(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt has no type information.
    """amqtt's handler of a connection, with the delivery of messages replaced.

    A connection that ended still fills its queue, until the next one of the session takes that over.
    """

    stream: PacketStream
    login: Login
    queue: SessionQueue

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended = asyncio.Event()
        self._open = False

    def start_delivery(self) -> None:
        """After CONNACK: resend what was in flight, then send what has waited [MQTT-4.4.0-1]."""
        self._open = True
        for mid, message in self.queue.unacknowledged():
            self._send(message, mid=mid, dup=True)
        self._send_due()

    def deliver(self, message: QueuedMessage, qos: int) -> None:
        if qos == 0:
            if self._open and self.stream.backlog_bytes < BACKLOG_BYTES_MAX:
                self._send(message, qos=0)
        elif self.queue.add(message):
            self._send_due()
        elif self.queue.refused == 1:
            log.error(
                "A client's queue is full: new messages for it are dropped.",
                client_id=self.session.client_id,
                messages=len(self.queue),
            )

    def acknowledge(self, mid: int) -> None:
        self.queue.acknowledge(mid)
        self._send_due()

    def close(self) -> None:
        self._open = False
        self.stream.abort()

    async def stop(self) -> None:
        """Also called by amqtt. Return when nothing more will happen on this connection."""
        self.close()
        await self.ended.wait()

    def _send_due(self) -> None:
        if self._open:
            for mid, message in self.queue.due():
                self._send(message, mid=mid)

    def _send(
        self, message: QueuedMessage, *, qos: int = 1, mid: int = 0, dup: bool = False
    ) -> None:
        topic, payload, retain = message
        self.stream.write(wire.publish(topic, payload, qos=qos, retain=retain, mid=mid, dup=dup))
