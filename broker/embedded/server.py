"""The broker inside `voltwire up`: amqtt, made to comply with MQTT 3.1.1.

amqtt 0.12 forgets an unacknowledged message after five seconds or a reconnect, never ends a silent
connection, keeps no session of a client without a user name, and runs about ten tasks for each
message. Its sessions, subscriptions, retained messages and rare packets are used unchanged; the
connections and the path of a message are replaced. All state is in memory and ends with the process.
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
from broker.wire import SESSION_EXPIRY_S, PacketType
from runtime.errors import StartError

CONNECT_S_MAX = 10
KEEPALIVE_FACTOR = 1.5  # [MQTT-3.1.2-24]
REFUSED = 0x80  # The return code in SUBACK.
# What a returning client may change in its CONNECT; the rest of its session stays.
UPDATED = ("will_flag", "will_topic", "will_message", "will_qos", "will_retain", "keep_alive")

log = structlog.get_logger()


async def run(
    host: str, port: int, stop: asyncio.Event, *, on_ready: Callable[[int], None] | None = None
) -> None:
    """Serve until `stop`. `on_ready` gets the port (0 asks for a free one). Raises StartError."""
    logging.getLogger("amqtt").setLevel(logging.ERROR)  # It warns of every lost client.
    logging.getLogger("transitions").setLevel(logging.ERROR)
    broker = EmbeddedBroker()
    server = await _listen(host, port, broker)
    await broker.start()
    try:
        async with asyncio.TaskGroup() as connections:
            broker.connections = connections
            await server.start_serving()
            port = server.sockets[0].getsockname()[1]
            log.info("The embedded broker is listening.", host=host, port=port)
            if on_ready is not None:
                on_ready(port)
            await stop.wait()
            server.close()
            broker.abort_all()
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
    """Every client may connect: the settings allow only loopback or a trusted network."""

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
        self.connections.create_task(self._serve_connection(stream, writer))

    def abort_all(self) -> None:
        self._stopping = True
        for stream in self._streams:
            stream.abort()

    async def _serve_connection(self, stream: PacketStream, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. No fault of it ends the broker."""
        try:
            await self.external_connected(stream, StreamWriterAdapter(writer), "default")
        except OSError as error:
            log.debug("A connection ended early.", reason=str(error))
        except Exception:
            log.exception("A connection ended with an error.")
        finally:
            self._streams.discard(stream)
            stream.abort()

    async def _initialize_client_session(
        self, reader: PacketStream, writer: StreamWriterAdapter, *_: Any
    ) -> tuple[ClientConnection, Session]:
        """Read CONNECT, and replace or resume what the same client had before.

        1. An older connection is ended first, and its will published [MQTT-3.1.4-2].
        2. A clean session deletes the older session [MQTT-3.1.2-6]; any other resumes it.
        """
        packet = await reader.packet(CONNECT_S_MAX)
        if packet is None:
            raise NoDataError
        connection, session = await ClientConnection.init_from_connect(
            BufferReader(wire.packet(*packet)), writer, self.plugins_manager
        )
        connection.stream = reader
        while (older := self._connection_of(session.client_id)) and not older.ended.is_set():
            await older.stop()
        if session.clean_session:
            await self._delete_session(session.client_id)
        elif older:
            session, connection.queue = _resume(older.session, session), older.queue
        return connection, session

    async def _handle_client_session(
        self,
        reader: PacketStream,
        writer: StreamWriterAdapter,
        session: Session,
        connection: ClientConnection,
        *_: Any,
    ) -> None:
        connection.attach(session, reader, writer)
        session.transitions.connect()
        self._sessions[session.client_id] = (session, connection)
        orderly = False
        try:
            await connection.mqtt_connack_authorize(authorize=True)
            connection.start_delivery()
            orderly = await self._serve(session, connection)
        finally:
            connection.close()
            try:
                await self._end_session(session, orderly=orderly)
            finally:
                connection.ended.set()

    async def _serve(self, session: Session, connection: ClientConnection) -> bool:
        """Handle packets until the end: True after DISCONNECT, which cancels the will [MQTT-3.14.4-3]."""
        idle_s_max = session.keep_alive * KEEPALIVE_FACTOR or None
        try:
            while packet := await connection.stream.packet(idle_s_max):
                if packet[0] >> 4 == PacketType.DISCONNECT:
                    return True
                await self._handle(session, connection, *packet)
        except (OSError, AMQTTError, MQTTError, NoDataError) as error:
            log.debug("A client was disconnected.", client_id=session.client_id, reason=repr(error))
        return False

    async def _handle(
        self, session: Session, connection: ClientConnection, first: int, body: bytes
    ) -> None:
        match first >> 4:
            case PacketType.PUBLISH:
                await self._publish(session, connection, first, body)
            case PacketType.PUBACK:
                connection.acknowledge(int.from_bytes(body[:2]))
            case PacketType.PUBREL:
                mid = int.from_bytes(body[:2])
                session.inflight_in.pop(mid, None)
                connection.stream.write(wire.acknowledgement(PacketType.PUBCOMP, mid))
            case PacketType.SUBSCRIBE:
                await self._subscribe(session, connection, wire.packet(first, body))
            case PacketType.UNSUBSCRIBE:
                await self._unsubscribe(session, connection, wire.packet(first, body))
            case PacketType.PINGREQ:
                connection.stream.write(wire.packet(PacketType.PINGRESP << 4, b""))
            case other:
                raise ConnectionError(f"A client must not send packet type {other}.")

    async def _publish(
        self, session: Session, connection: ClientConnection, first: int, body: bytes
    ) -> None:
        """Distribute, then answer. QoS 2: distribute at once, keep the id until PUBREL [MQTT-4.3.3]."""
        topic, payload, qos, retain, mid = wire.parse_publish(first, body)
        if not _may_be_published(topic) or qos > 2 or bool(mid) != bool(qos):  # noqa: PLR2004
            raise ConnectionError("The PUBLISH violates the MQTT standard.")
        if qos < 2 or mid not in session.inflight_in:  # noqa: PLR2004
            await self._distribute(session, QueuedMessage(topic, payload, retain), qos)
        if qos == 1:
            connection.stream.write(wire.pubacks((mid,)))
        elif qos:
            session.inflight_in[mid] = None
            connection.stream.write(wire.acknowledgement(PacketType.PUBREC, mid))

    async def _distribute(self, session: Session, message: QueuedMessage, qos: int) -> None:
        if message.topic.startswith("$"):  # Clients must not use these topics [MQTT-4.7.2-1].
            return
        live = message._replace(retain=False)  # [MQTT-3.3.1-9]
        for client_id, granted in self._recipients(message.topic).items():
            if connection := self._connection_of(client_id):
                connection.deliver(live, min(qos, granted))
        if message.retain:
            await self.retain_message(session, message.topic, message.payload, qos)

    def _recipients(self, topic: str) -> dict[str, int]:
        """The matching clients, each with the highest QoS among its filters [MQTT-3.3.5-1]."""
        if self._wildcards is None:
            self._wildcards = [each for each in self._subscriptions if "+" in each or "#" in each]
        matching = [each for each in self._wildcards if self._matches(topic, each)]
        found: dict[str, int] = {}
        for topic_filter in (topic, *matching):
            for session, granted in self._subscriptions.get(topic_filter, ()):
                found[session.client_id] = max(granted, found.get(session.client_id, 0))
        return found

    async def _subscribe(self, session: Session, connection: ClientConnection, raw: bytes) -> None:
        packet = await SubscribePacket.from_stream(BufferReader(raw))
        filters = packet.payload.topics
        granted = [await self.add_subscription(each, session) for each in filters]
        suback = SubackPacket.build(packet.variable_header.packet_id, granted)
        connection.stream.write(suback.to_bytes())
        for (topic_filter, _), qos in zip(filters, granted, strict=True):
            if qos != REFUSED:
                self._send_retained(connection, topic_filter, qos)

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """The granted QoS, at most 1. Shared subscriptions are refused: amqtt would never serve them."""
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

    def _send_retained(self, connection: ClientConnection, topic_filter: str, granted: int) -> None:
        for topic, retained in self._retained_messages.items():
            if self._matches(topic, topic_filter):
                message = QueuedMessage(topic, bytes(retained.data), retain=True)
                connection.deliver(message, min(retained.qos or 0, granted))

    async def _unsubscribe(
        self, session: Session, connection: ClientConnection, raw: bytes
    ) -> None:
        packet = await UnsubscribePacket.from_stream(BufferReader(raw))
        for topic_filter in packet.payload.topics:
            self._del_subscription(topic_filter, session)
            if not self._subscriptions.get(topic_filter, True):
                del self._subscriptions[topic_filter]
        connection.stream.write(UnsubackPacket.build(packet.variable_header.packet_id).to_bytes())

    async def _end_session(self, session: Session, *, orderly: bool) -> None:
        if session.will_flag and not orderly and _may_be_published(session.will_topic):
            payload, retain = bytes(session.will_message or b""), bool(session.will_retain)
            will = QueuedMessage(session.will_topic, payload, retain)
            await self._distribute(session, will, session.will_qos)
        session.transitions.disconnect()
        if session.clean_session:
            await self._delete_session(session.client_id)

    def _connection_of(self, client_id: str) -> ClientConnection | None:
        connection: ClientConnection | None = self._sessions.get(client_id, (None, None))[1]
        return connection


def _resume(session: Session, incoming: Session) -> Session:
    for name in UPDATED:
        setattr(session, name, getattr(incoming, name))
    session.parent = 1  # Session present in CONNACK.
    return session


def _may_be_published(topic: str) -> bool:
    """No wildcards, no NUL, valid UTF-8 [MQTT-3.3.2-2], [MQTT-1.5.3]."""
    return bool(topic) and not any(mark in topic for mark in "+#\0\ufffd")
