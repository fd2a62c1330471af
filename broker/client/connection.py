"""One MQTT connection of a session, from CONNECT until it is lost.

aiomqtt 2.5 and the paho client inside it connect, subscribe, keep alive and notice a loss. But they
acknowledge a message before our code has seen it, keep session_present and the reason codes of
PUBACK to themselves, and spend 50 to 280 µs on each message. So PUBLISH and PUBACK, both ways, go
around them. Four private names are touched, in this file alone: `_client`, to reach paho; its
`_create_socket`, to put an PublishTap before the socket; its `_packet_queue`, to send our packets; its
`_ping_t`, to tell it that the broker lives. The releases are pinned; tests/integration/test_session.py
fails when others behave differently.
"""

import asyncio
import math
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

import aiomqtt
import structlog
from aiomqtt import ProtocolVersion
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker import topics, wire
from broker.client.delivery import Delivery
from broker.client.options import ANSWER_S_MAX, ClientIdentity, client_of, packed, secured
from broker.client.packet_tap import PublishTap
from broker.client.publisher import WINDOW_MAX, Publisher
from broker.wire import PacketType
from runtime.errors import BrokerUnavailable, StartError

UNREAD_LOOK_S = 1.0
HUNG_UP = ReasonCode(PacketTypes.CONNACK, "Server unavailable")

T = TypeVar("T")

log = structlog.get_logger()


class Connection:
    """Never used again once it is lost: its packet ids mean nothing on the next one (F14)."""

    def __init__(
        self,
        identity: ClientIdentity,
        version: ProtocolVersion,
        generation: int,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        self.version = version
        self._mqtt5 = version is ProtocolVersion.V5
        self.connack: ReasonCode | None = None
        self.session_present = False
        self._generation, self._on_delivery = generation, on_delivery
        self._loop = asyncio.get_running_loop()
        self._hung_up = self._closed = self._flushing = False
        self._shares = True
        self._unacknowledged: deque[Delivery] = deque()
        self._window = identity.receive_maximum
        self._unread: Any = None  # The socket, while it is not read.
        self._bearing = False  # Its timer runs.
        self._pieces = 0  # Of the stream, so far.
        self._publisher = Publisher(self._send)
        self._outgoing: list[bytes] = []
        self.client = client_of(identity, version)
        self._paho = paho = self.client._client  # noqa: SLF001  # See the top of this file.
        connect = paho._create_socket  # noqa: SLF001

        def connect_with_intake() -> PublishTap:  # In a thread: meanwhile we may have been closed.
            sock = secured(connect(), identity)
            if self._closed:
                sock.close()
                raise ConnectionAbortedError
            take_puback = self._publisher.take_puback
            return PublishTap(sock, self._take_publish, take_puback, self._heard)

        paho._create_socket = connect_with_intake  # type: ignore[method-assign]  # noqa: SLF001
        paho.disable_logger()  # It calls every lost link an error; the session logs that once.
        self._aiomqtt_connack = cast("Callable[..., None]", paho.on_connect)
        self._aiomqtt_loss = cast("Callable[..., None]", paho.on_disconnect)
        paho.on_connect, paho.on_disconnect = self._take_connack, self._take_loss
        paho.on_socket_register_write = self._watch_for_writing

    @property
    def unanswered(self) -> bool:
        """The broker let us in over TCP and gave no answer to CONNECT."""
        return self.connack is None and (self._hung_up or self._paho.socket() is not None)

    async def until_lost(self) -> None:
        """Raise MqttError as soon as the connection is lost."""
        if self._paho.socket() is None:  # aiomqtt forgets a loss right after CONNACK.
            raise aiomqtt.MqttError("The broker hung up right after CONNACK")
        async for _ in self.client.messages:
            pass

    async def subscribe(self, topic_filter: str) -> None:
        """Ask for QoS 1 and check it: with 2, paho loses messages in a crash (F13).

        With MQTT 5 retained messages come only when the subscription is new to the broker.
        Raises StartError when the broker does not share subscriptions: trying again would not help.
        """
        if topics.is_shared(topic_filter) and not self._shares:
            raise _no_sharing(topic_filter)
        wanted: dict[str, Any] = {"qos": 1}
        if self.version is ProtocolVersion.V5:
            if_new = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            wanted = {"options": SubscribeOptions(qos=1, retainHandling=if_new)}
        granted = await self._answer(
            self.client.subscribe(topic_filter, timeout=math.inf, **wanted)
        )
        if [code.value if isinstance(code, ReasonCode) else code for code in granted] != [1]:
            if topics.is_shared(topic_filter):
                raise _no_sharing(topic_filter)
            raise BrokerUnavailable(
                f"The broker does not grant QoS 1 for {topic_filter}: allow this client to read it."
            )

    async def unsubscribe(self, topic_filter: str) -> None:
        """Return after the UNSUBACK; also when there was no such subscription."""
        await self._answer(self.client.unsubscribe(topic_filter, timeout=math.inf))

    async def _answer(self, asking: Coroutine[Any, Any, T]) -> T:
        """The broker's answer, however long the backlog is that Mosquitto sends before it.

        Raises MqttError when nothing else comes either.
        """
        task = asyncio.create_task(asking)
        try:
            while True:
                pieces = self._pieces
                done, _ = await asyncio.wait((task,), timeout=ANSWER_S_MAX)
                if done:
                    return task.result()
                if pieces == self._pieces and self._unread is None:
                    raise aiomqtt.MqttError("The broker does not answer")
        finally:
            task.cancel()

    def acknowledge(self) -> None:
        """Look soon, once for many calls, which PUBACKs are due."""
        self._flush_soon()

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, correlation_data: bytes | None
    ) -> None:
        if self.version is ProtocolVersion.V5:
            payload = packed(correlation_data) + payload
        await self._publisher.publish(topic, payload, qos=qos, retain=retain)

    def abort(self) -> None:
        """End it without DISCONNECT, so that it is lost as any other."""
        sock: Any = self._paho.socket()
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Fail what still waits, and end a connection that aiomqtt gave up without closing it."""
        self._closed = True
        self._publisher.close()
        if self._paho.socket() is not None:
            self._paho.on_disconnect = None
            self._paho.disconnect()

    def _send(self, data: bytes) -> None:
        """Soon, in one piece with what else comes up in this turn of the event loop."""
        self._outgoing.append(data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """PUBACK stands for all of it: paho asks only whether it is a DISCONNECT or a QoS 0 PUBLISH."""
        self._flushing = False
        data = b"".join((*self._outgoing, wire.pubacks(self._due())))
        self._outgoing.clear()
        if data:
            self._paho._packet_queue(PacketType.PUBACK << 4, data, 0, 1)  # noqa: SLF001
        if self._unread is not None and len(self._unacknowledged) < self._window:
            self._read_again()

    def _due(self) -> list[int]:
        """The packet ids to acknowledge now, in the order of arrival [MQTT-4.6.0-2]."""
        waiting, due = self._unacknowledged, []
        while waiting and waiting[0].done:
            due.append(waiting.popleft().mid)
        return due

    def _stop_reading(self) -> None:
        """A broker may send more than we allow it, and then nothing but TCP can hold it back.

        Mosquitto 2.0.11 sends two messages for each acknowledgement while it has a backlog: after an
        outage of 10 minutes at 1,000/s, 340,000 were under way.
        """
        sock: Any = self._paho.socket()
        if sock is not None and self._unread is None:
            self._unread = sock
            self._loop.remove_reader(sock.fileno())
            if not self._bearing:
                self._bear_with_it()

    def _bear_with_it(self) -> None:
        """What we do not read cannot tell paho that the broker lives: do not let it give up."""
        self._bearing = self._unread is not None and not self._closed
        if self._bearing:
            self._heard()
            self._loop.call_later(UNREAD_LOOK_S, self._bear_with_it)

    def _heard(self) -> None:
        """Any byte is as good as a PINGRESP, which may stand behind a long backlog."""
        self._pieces += 1
        self._paho._ping_t = 0  # noqa: SLF001

    def _read_again(self) -> None:
        sock: Any = self._unread
        self._unread = None
        if cast("Any", self._paho.socket()) is sock:
            self._loop.add_reader(sock.fileno(), self._read)
            self._loop.call_soon(self._read)  # TLS may hold bytes that no event announces.

    def _read(self) -> None:
        """As aiomqtt does, whose own callback cannot be had."""
        try:
            while (sock := self._paho.socket()) is not None and self._unread is None:
                self._paho.loop_read()
                if not cast("Any", sock).pending():
                    return
        except Exception:
            log.exception("Reading from the broker failed: connecting anew.")
            self.abort()

    def _watch_for_writing(self, client: Client, _userdata: Any, sock: Any) -> None:
        """From any thread. aiomqtt would also watch a socket that was closed until its turn came."""

        def watch() -> None:
            alive = client.socket() is sock
            if alive:
                self._loop.add_writer(sock.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(watch)

    def _take_publish(self, first: int, body: bytes) -> None:
        delivery = Delivery.parse(first, body, self._generation, mqtt5=self._mqtt5)
        if delivery.qos:
            self._unacknowledged.append(delivery)
            if len(self._unacknowledged) > self._window:
                self._stop_reading()
        try:
            self._on_delivery(delivery)
        except Exception:
            # Raised further it would end this connection, and the next one with the same message.
            # It stays unacknowledged, in nobody's way, until the broker sends it again.
            log.exception("A message could not be taken in.", topic=delivery.topic)
            if delivery in self._unacknowledged:
                self._unacknowledged.remove(delivery)

    def _take_connack(
        self,
        client: Client,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.connack, self.session_present = reason, flags.session_present
        self._publisher.limit(getattr(properties, "ReceiveMaximum", WINDOW_MAX))
        self._shares = bool(getattr(properties, "SharedSubscriptionAvailable", True))
        self._aiomqtt_connack(client, userdata, flags, reason, properties)

    def _take_loss(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if self.connack is None:  # aiomqtt would wait for it until the time is up.
            self._hung_up = True
            self._aiomqtt_connack(client, userdata, ConnectFlags(False), HUNG_UP, None)
        self._aiomqtt_loss(client, userdata, flags, reason, properties)


def _no_sharing(topic_filter: str) -> StartError:
    return StartError(
        f"The broker does not grant {topic_filter}, which several ingestors need: allow it, use a"
        " broker with shared subscriptions, or start with --workers 1."
    )
