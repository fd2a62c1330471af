"""amqtt, made to comply with MQTT 3.1.1: the sessions of the embedded broker, and what clients send.

amqtt 0.12 forgets an unacknowledged message after five seconds or a reconnect, never ends a silent
connection, keeps no session of a client without a user name, accepts malformed packets, and runs about ten
tasks for each message. Its sessions and their expiry are used; packets (packets.py), the connections, and
the path of a message (router.py) are replaced. All state is in memory and ends with the process.
"""

from time import monotonic
from typing import Any
from uuid import uuid4

import structlog
from amqtt.adapters import StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import NoDataError
from amqtt.session import Session

from broker import wire
from broker.embedded import limits, packets
from broker.embedded.accounts import AccountChange
from broker.embedded.connection import ClientConnection, PacketStream
from broker.embedded.packets import Connect
from broker.embedded.rights import Access, Login
from broker.embedded.router import REFUSED, Router
from broker.embedded.session_queue import QueuedMessage, SessionQueue, SharedBudget
from broker.wire import SESSION_EXPIRY_S, PacketType
from runtime.rate import RateLimit

KEEPALIVE_FACTOR = 1.5  # [MQTT-3.1.2-24]
# What a returning client may change in its CONNECT; the rest of its session stays.
UPDATED = ("will_flag", "will_topic", "will_message", "will_qos", "will_retain", "keep_alive")

log = structlog.get_logger()


class EmbeddedBroker(Broker):  # type: ignore[misc]  # amqtt has no type information.
    def __init__(self, access: Access) -> None:
        listener = ListenerConfig(type=ListenerType.EXTERNAL)  # We listen ourselves.
        super().__init__(
            BrokerConfig(
                {"default": listener}, session_expiry_interval=SESSION_EXPIRY_S, plugins={}
            )
        )
        self._access = access
        self._router = Router(self._connection_of)
        self._queues_of_others = SharedBudget()
        self._limit_log = limits.LimitLog()
        self._connects = RateLimit(limits.CONNECTS_PER_S, limits.CONNECTS_BURST_S)

    async def change_accounts(self, change: AccountChange) -> None:
        """Cut off who may not stay connected. Of revoked accounts, session, queue and will are forgotten."""
        cut = [
            connection
            for client_id in self._access.apply(change)
            if (connection := self._connection_of(client_id)) is not None
            and not self._access.is_valid(connection.login)
        ]
        revoked = [each for each in cut if self._access.is_revoked(each.login)]
        for connection in revoked:
            connection.session.will_flag = False
            # Packets that were read before may still be handled.
            connection.login = connection.login.without_rights()
        for connection in cut:
            connection.close()
        for connection in revoked:
            await connection.ended.wait()
            await self._delete_session(connection.session.client_id)

    async def _initialize_client_session(
        self, reader: PacketStream, *_: Any
    ) -> tuple[ClientConnection, Session]:
        """Read CONNECT, and replace or resume what the same client had before.

        1. A client that may not connect is refused before anything changes.
        2. An older connection is ended, and its will published [MQTT-3.1.4-2].
        3. A clean session deletes the older session [MQTT-3.1.2-6]; any other resumes it.
        """
        packet = await reader.first_packet()
        if packet is None:
            raise NoDataError
        connect = packets.parse_connect(*packet)
        login = await self._admit(reader, connect)
        session = _session(connect, login.client_id)
        connection = ClientConnection(self.plugins_manager)
        connection.stream, connection.login = reader, login
        connection.queue = SessionQueue(None if login.ours else self._queues_of_others)
        while (older := self._connection_of(session.client_id)) and not older.ended.is_set():
            await older.stop()
        if session.clean_session or (older and older.login.ours != login.ours):
            await self._delete_session(session.client_id)
        elif older:
            session, connection.queue = _resume(older.session, session), older.queue
            session.parent = int(connect.level == packets.MQTT_311)  # Reserved in MQTT 3.1.
        return connection, session

    async def _admit(self, stream: PacketStream, connect: Connect) -> Login:
        """Who the client is. Raises ConnectionError for one that may not connect, after its CONNACK."""
        login = self._access.login(connect)
        code, reason = connect.refusal, ""
        if not code:
            code, reason = self._refusal(stream, connect, login)
        if login is not None and not code:
            return login
        if reason:
            self._limit_log.report(f"A client was refused: {reason}.", client_id=connect.client_id)
        await stream.finish(packets.connack(code=code))
        raise ConnectionError(f"The client was refused with code {code}.")

    def _refusal(
        self, stream: PacketStream, connect: Connect, login: Login | None
    ) -> tuple[int, str]:
        """The return code for CONNACK, and its reason; 0 if the client may connect."""
        if login is not None and login.ours:
            return 0, ""
        if not self._access.ready:
            return packets.SERVER_UNAVAILABLE, "the credentials have not been read yet"
        client_id = connect.client_id if login is None else login.client_id
        older = self._connection_of(client_id)
        if self._access.is_reserved(client_id) or (older and older.login.ours):
            return packets.NOT_AUTHORIZED, "its client id is one of Voltwire's own"
        if login is None:
            return packets.NOT_AUTHORIZED, "its user name, its password or its client id is wrong"
        if reason := self._exceeded(stream, client_id, known=older is not None):
            return packets.SERVER_UNAVAILABLE, reason
        return 0, ""

    def _exceeded(self, stream: PacketStream, client_id: str, *, known: bool) -> str:
        """The limit that does not allow it to connect now."""
        if client_id and not self._connects.take(client_id, 1, monotonic()):
            return "it connects too often"
        if stream.only_ours or not (known or len(self._sessions) < limits.SESSIONS_MAX):
            return "the embedded broker has as many connections or sessions as it can serve"
        return ""

    async def _handle_client_session(
        self,
        reader: PacketStream,
        writer: StreamWriterAdapter,
        session: Session,
        connection: ClientConnection,
        *_: Any,
    ) -> None:
        if not self._access.is_valid(connection.login):
            raise ConnectionError("The secret ended while the client connected.")
        connection.attach(session, reader, writer)
        session.transitions.connect()
        self._sessions[session.client_id] = (session, connection)
        orderly = False
        try:
            reader.write(packets.connack(session_present=bool(session.parent)))
            connection.start_delivery()
            orderly = await self._serve(session, connection)
        finally:
            connection.close()
            try:
                await self._end_session(session, connection, orderly=orderly)
            finally:
                connection.ended.set()

    async def _serve(self, session: Session, connection: ClientConnection) -> bool:
        """Handle packets until the end: True after DISCONNECT, which cancels the will [MQTT-3.14.4-3]."""
        idle_s_max = session.keep_alive * KEEPALIVE_FACTOR or None
        try:
            while packet := await connection.stream.packet(idle_s_max):
                kind = packets.check(*packet)
                if kind is PacketType.DISCONNECT:
                    return True
                await self._router.take_turn()
                await self._handle(session, connection, kind, *packet)
        except OSError as error:
            log.debug("A client was disconnected.", client_id=session.client_id, reason=repr(error))
        return False

    async def _handle(
        self,
        session: Session,
        connection: ClientConnection,
        kind: PacketType,
        first: int,
        body: bytes,
    ) -> None:
        match kind:
            case PacketType.PUBLISH:
                await self._publish(session, connection, first, body)
            case PacketType.PUBACK:
                connection.acknowledge(packets.parse_packet_id(body))
            case PacketType.PUBREL:
                mid = packets.parse_packet_id(body)
                session.inflight_in.pop(mid, None)
                connection.stream.write(wire.acknowledgement(PacketType.PUBCOMP, mid))
            case PacketType.SUBSCRIBE:
                await self._subscribe(connection, body)
            case PacketType.UNSUBSCRIBE:
                mid, filters = packets.parse_unsubscribe(body)
                await self._router.unsubscribe(session.client_id, filters)
                connection.stream.write(wire.acknowledgement(PacketType.UNSUBACK, mid))
            case PacketType.PINGREQ:
                connection.stream.write(wire.packet(PacketType.PINGRESP << 4, b""))
            case other:
                raise ConnectionError(f"A client must not send {other.name} now.")

    async def _publish(
        self, session: Session, connection: ClientConnection, first: int, body: bytes
    ) -> None:
        """Distribute, then answer. QoS 2: distribute at once, keep the id until PUBREL [MQTT-4.3.3]."""
        topic, payload, qos, retain, mid = packets.parse_publish(first, body)
        if qos < 2 or mid not in session.inflight_in:  # noqa: PLR2004
            await self._router.publish(connection, QueuedMessage(topic, payload, retain), qos)
        if qos == 1:
            connection.stream.write(wire.pubacks((mid,)))
        elif qos:
            session.inflight_in[mid] = None
            if len(session.inflight_in) > limits.UNRELEASED_MAX:
                raise ConnectionError("Too many messages of QoS 2 wait for PUBREL.")
            connection.stream.write(wire.acknowledgement(PacketType.PUBREC, mid))

    async def _subscribe(self, connection: ClientConnection, body: bytes) -> None:
        mid, wanted = packets.parse_subscribe(body)
        granted = await self._router.subscribe(connection, wanted)
        suback = mid.to_bytes(2) + bytes(granted)
        connection.stream.write(wire.packet(PacketType.SUBACK << 4, suback))
        filters = [topic_filter for topic_filter, _ in wanted]
        for topic_filter, qos in dict(zip(filters, granted, strict=True)).items():
            if qos != REFUSED:
                await self._router.send_retained(connection, topic_filter, qos)

    async def _end_session(
        self, session: Session, connection: ClientConnection, *, orderly: bool
    ) -> None:
        if session.will_flag and not orderly:
            will = QueuedMessage(session.will_topic, session.will_message, session.will_retain)
            await self._router.publish(connection, will, session.will_qos)
        session.transitions.disconnect()
        if session.clean_session:
            await self._delete_session(session.client_id)

    async def _delete_session(self, client_id: str) -> None:
        """Called by amqtt, too, when a session expires."""
        if connection := self._connection_of(client_id):
            connection.queue.clear()
        await super()._delete_session(client_id)

    async def _del_all_subscriptions(self, session: Session) -> None:
        """Called by amqtt, when it deletes a session."""
        self._router.forget(session.client_id)

    def _connection_of(self, client_id: str) -> ClientConnection | None:
        connection: ClientConnection | None = self._sessions.get(client_id, (None, None))[1]
        return connection


def _session(connect: Connect, client_id: str) -> Session:
    session = Session()
    session.client_id = client_id or f"auto-{uuid4().hex}"  # [MQTT-3.1.3-6]
    session.clean_session = connect.clean
    session.keep_alive = connect.keepalive_s
    if will := connect.will:
        session.will_flag, session.will_topic, session.will_message = True, will.topic, will.payload
        session.will_qos, session.will_retain = will.qos, will.retain
    return session


def _resume(session: Session, incoming: Session) -> Session:
    for name in UPDATED:
        setattr(session, name, getattr(incoming, name))
    return session
