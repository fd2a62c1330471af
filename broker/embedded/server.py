"""The broker inside `voltwire up`: amqtt, made to keep the promises of MQTT 3.1.1.

amqtt 0.12 forgets an unacknowledged message after five seconds or a reconnect, never ends a silent
connection, keeps no session of a client without a user name, and runs about ten tasks for each
message. Its sessions, subscriptions, retained messages and rare packets are used as they are; the
connections and the way of a message are replaced. All of it lives in memory: stopping forgets it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import structlog
from amqtt.adapters import BufferReader, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from amqtt.session import Session

from broker import wire
from broker.embedded.connection import ClientConnection, PacketStream
from broker.embedded.session_queue import QueuedMessage
from broker.wire import PacketType
from runtime.errors import StartError

CONNECT_S_MAX = 10
KEEPALIVE_FACTOR = 1.5  # [MQTT-3.1.2-24]
SESSION_EXPIRY_S = 7 * 24 * 3600
REFUSED = 0x80  # In SUBACK.
# What a returning client may say differently; all else of its session stays.
RENEWED = ("will_flag", "will_topic", "will_message", "will_qos", "will_retain", "keep_alive")

log = structlog.get_logger()


async def run(
    host: str, port: int, stop: asyncio.Event, *, on_ready: Callable[[int], None] | None = None
) -> None:
    """Serve until `stop`. `on_ready` gets the port (0 asks for a free one). Raises StartError."""
    logging.getLogger("amqtt").setLevel(logging.ERROR)  # It warns of every client that hangs up.
    logging.getLogger("transitions").setLevel(logging.ERROR)
    broker = EmbeddedBroker()
    server = await _listen(host, port, broker)
    await broker.start()
    try:
        async with asyncio.TaskGroup() as connections:
            broker.connections = connections
            await server.start_serving()
            port = server.sockets[0].getsockname()[1]
            log.info("The embedded broker listens.", host=host, port=port)
            if on_ready is not None:
                on_ready(port)
            await stop.wait()
            server.close()
            broker.hang_up()
    finally:
        await broker.shutdown()


async def _listen(host: str, port: int, broker: "EmbeddedBroker") -> asyncio.Server:
    try:
        return await asyncio.start_server(broker.accept, host, port, start_serving=False)
    except OSError as error:
        raise StartError(
            f"The MQTT broker cannot listen on {host}:{port} ({error.strerror or error}): "
            "stop the program that uses this port, or set MQTT_HOST and MQTT_PORT."
        ) from error


class EmbeddedBroker(Broker):  # type: ignore[misc]  # amqtt has no type information.
    """Any client is let in: settings see to it that this happens on loopback or a trusted network."""

    connections: asyncio.TaskGroup

    def __init__(self) -> None:
        listener = ListenerConfig(type=ListenerType.EXTERNAL)  # We listen ourselves.
        super().__init__(
            BrokerConfig(
                {"default": listener}, session_expiry_interval=SESSION_EXPIRY_S, plugins={}
            )
        )
        self._streams: set[PacketStream] = set()
        self._stopping = False
        self._wildcards: list[str] | None = None

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = PacketStream(reader, writer)
        if self._stopping:
            stream.abort()
            return
        self._streams.add(stream)
        self.connections.create_task(self._attend(stream, writer))

    def hang_up(self) -> None:
        self._stopping = True
        for stream in self._streams:
            stream.abort()

    async def _attend(self, stream: PacketStream, writer: asyncio.StreamWriter) -> None:
        """One connection, whatever comes through it: it cannot end the broker."""
        try:
            await self.external_connected(stream, StreamWriterAdapter(writer), "default")
        except OSError as error:
            log.debug("A connection ended early.", reason=str(error))
        except Exception:
            log.exception("A connection ended in an error.")
        finally:
            self._streams.discard(stream)
            stream.abort()

    async def _initialize_client_session(
        self, reader: PacketStream, writer: StreamWriterAdapter, *_: Any
    ) -> tuple[ClientConnection, Session]:
        """CONNECT, and what becomes of an older connection and session of the same client.

        1. An older connection is ended first, will and all [MQTT-3.1.4-2].
        2. A clean session forgets the older one [MQTT-3.1.2-6]; otherwise it goes on.
        """
        packet = await reader.packet(CONNECT_S_MAX)
        if packet is None:
            raise NoDataError
        link, session = await ClientConnection.init_from_connect(
            BufferReader(wire.packet(*packet)), writer, self.plugins_manager
        )
        link.stream = reader
        while (older := self._link(session.client_id)) and not older.ended.is_set():
            await older.stop()
        if session.clean_session:
            await self._delete_session(session.client_id)
        elif older:
            session, link.outbox = _resumed(older.session, session), older.outbox
        return link, session

    async def _handle_client_session(
        self,
        reader: PacketStream,
        writer: StreamWriterAdapter,
        session: Session,
        link: ClientConnection,
        *_: Any,
    ) -> None:
        link.attach(session, reader, writer)
        session.transitions.connect()
        self._sessions[session.client_id] = (session, link)
        orderly = False
        try:
            await link.mqtt_connack_authorize(authorize=True)
            link.begin()
            orderly = await self._serve(session, link)
        finally:
            link.close()
            try:
                await self._end(session, orderly=orderly)
            finally:
                link.ended.set()

    async def _serve(self, session: Session, link: ClientConnection) -> bool:
        """Until the client goes: True after its DISCONNECT, which cancels the will [MQTT-3.14.4-3]."""
        silence_s_max = session.keep_alive * KEEPALIVE_FACTOR or None
        try:
            while packet := await link.stream.packet(silence_s_max):
                if packet[0] >> 4 == PacketType.DISCONNECT:
                    return True
                await self._handle(session, link, *packet)
        except (OSError, AMQTTError, MQTTError, NoDataError) as error:
            log.debug("A client is cut off.", client_id=session.client_id, reason=repr(error))
        return False

    async def _handle(
        self, session: Session, link: ClientConnection, first: int, body: bytes
    ) -> None:
        match first >> 4:
            case PacketType.PUBLISH:
                await self._publish(session, link, first, body)
            case PacketType.PUBACK:
                link.acknowledge(int.from_bytes(body[:2]))
            case PacketType.PUBREL:
                mid = int.from_bytes(body[:2])
                session.inflight_in.pop(mid, None)
                link.stream.write(wire.answer(PacketType.PUBCOMP, mid))
            case PacketType.SUBSCRIBE:
                await self._subscribe(session, link, wire.packet(first, body))
            case PacketType.UNSUBSCRIBE:
                await self._unsubscribe(session, link, wire.packet(first, body))
            case PacketType.PINGREQ:
                link.stream.write(wire.packet(PacketType.PINGRESP << 4, b""))
            case other:
                raise ConnectionError(f"Packet type {other} is not for a broker.")

    async def _publish(
        self, session: Session, link: ClientConnection, first: int, body: bytes
    ) -> None:
        """Pass it on, then answer. QoS 2 is passed on at once, its id kept until PUBREL [MQTT-4.3.3]."""
        topic, payload, qos, retain, mid = wire.parse_publish(first, body)
        if not _may_be_published(topic) or qos > 2 or bool(mid) != bool(qos):  # noqa: PLR2004
            raise ConnectionError("A PUBLISH that the standard forbids.")
        if qos < 2 or mid not in session.inflight_in:  # noqa: PLR2004
            await self._distribute(session, QueuedMessage(topic, payload, retain), qos)
        if qos == 1:
            link.stream.write(wire.pubacks((mid,)))
        elif qos:
            session.inflight_in[mid] = None
            link.stream.write(wire.answer(PacketType.PUBREC, mid))

    async def _distribute(self, session: Session, message: QueuedMessage, qos: int) -> None:
        if message.topic.startswith("$"):  # Not for clients to exchange messages [MQTT-4.7.2-1].
            return
        live = message._replace(retain=False)  # [MQTT-3.3.1-9]
        for client_id, granted in self._recipients(message.topic).items():
            if link := self._link(client_id):
                link.deliver(live, min(qos, granted))
        if message.retain:
            await self.retain_message(session, message.topic, message.payload, qos)

    def _recipients(self, topic: str) -> dict[str, int]:
        """Each client once, with the highest QoS that one of its filters has [MQTT-3.3.5-1]."""
        if self._wildcards is None:
            self._wildcards = [each for each in self._subscriptions if "+" in each or "#" in each]
        matching = [each for each in self._wildcards if self._matches(topic, each)]
        found: dict[str, int] = {}
        for topic_filter in (topic, *matching):
            for session, granted in self._subscriptions.get(topic_filter, ()):
                found[session.client_id] = max(granted, found.get(session.client_id, 0))
        return found

    async def _subscribe(self, session: Session, link: ClientConnection, raw: bytes) -> None:
        packet = await SubscribePacket.from_stream(BufferReader(raw))
        filters = packet.payload.topics
        granted = [await self.add_subscription(each, session) for each in filters]
        link.stream.write(SubackPacket.build(packet.variable_header.packet_id, granted).to_bytes())
        for (topic_filter, _), qos in zip(filters, granted, strict=True):
            if qos != REFUSED:
                self._send_retained(link, topic_filter, qos)

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """The QoS granted: 1 at most. A shared subscription is refused: amqtt would never serve it."""
        topic_filter, qos = subscription
        if topic_filter.startswith("$share/"):
            return REFUSED
        self._del_subscription(topic_filter, session)  # A new one replaces it [MQTT-3.8.4-3].
        granted: int = await super().add_subscription((topic_filter, min(qos, 1)), session)
        self._wildcards = None
        return granted

    def _del_subscription(self, a_filter: str, session: Session) -> int:
        self._wildcards = None
        deleted: int = super()._del_subscription(a_filter, session)
        return deleted

    def _send_retained(self, link: ClientConnection, topic_filter: str, granted: int) -> None:
        for topic, retained in self._retained_messages.items():
            if self._matches(topic, topic_filter):
                message = QueuedMessage(topic, bytes(retained.data), retain=True)
                link.deliver(message, min(retained.qos or 0, granted))

    async def _unsubscribe(self, session: Session, link: ClientConnection, raw: bytes) -> None:
        packet = await UnsubscribePacket.from_stream(BufferReader(raw))
        for topic_filter in packet.payload.topics:
            self._del_subscription(topic_filter, session)
            if not self._subscriptions.get(topic_filter, True):
                del self._subscriptions[topic_filter]
        link.stream.write(UnsubackPacket.build(packet.variable_header.packet_id).to_bytes())

    async def _end(self, session: Session, *, orderly: bool) -> None:
        if session.will_flag and not orderly and _may_be_published(session.will_topic):
            payload, retain = bytes(session.will_message or b""), bool(session.will_retain)
            will = QueuedMessage(session.will_topic, payload, retain)
            await self._distribute(session, will, session.will_qos)
        session.transitions.disconnect()
        if session.clean_session:
            await self._delete_session(session.client_id)

    def _link(self, client_id: str) -> ClientConnection | None:
        link: ClientConnection | None = self._sessions.get(client_id, (None, None))[1]
        return link


def _resumed(session: Session, incoming: Session) -> Session:
    for name in RENEWED:
        setattr(session, name, getattr(incoming, name))
    session.parent = 1  # Session present, in CONNACK.
    return session


def _may_be_published(topic: str) -> bool:
    """No wildcards, no NUL, valid UTF-8 [MQTT-3.3.2-2], [MQTT-1.5.3]."""
    return bool(topic) and not any(mark in topic for mark in "+#\0\ufffd")
