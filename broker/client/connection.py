"""One MQTT connection of a session, from CONNECT until it is lost.

aiomqtt 2.5 and the paho client inside it connect, subscribe, keep alive and detect a loss. But they
acknowledge a message before our code has seen it, hide session_present and the reason codes of
PUBACK, and spend 50 to 280 µs on each message. So PUBLISH and PUBACK bypass them in both directions.
Four private names are used, and only here and in broker/client/flow_control.py: `_client`, to reach
paho; its `_create_socket`, to put a PublishTap before the socket; its `_packet_queue`, to send our
packets; its `_ping_t`, to report that the broker is alive. The releases are pinned;
tests/integration/broker/test_session.py fails when another release behaves differently.
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
from broker.client.flow_control import FlowControl
from broker.client.options import (
    ANSWER_S_MAX,
    ClientIdentity,
    make_client,
    publish_properties,
    wrap_tls,
)
from broker.client.packet_tap import PublishTap
from broker.client.publisher import WINDOW_MAX, Publisher
from broker.wire import PacketType
from runtime.errors import BrokerUnavailable, StartError

NO_CONNACK = ReasonCode(PacketTypes.CONNACK, "Server unavailable")

T = TypeVar("T")

log = structlog.get_logger()


class Connection:
    """One MQTT connection, which is not reused after a loss.

    Its packet ids mean nothing on the next connection (docs/failure-modes.md, 14).
    """

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
        self._closed_early = self._closed = self._flushing = False
        self._can_share = True
        self._unacknowledged: deque[Delivery] = deque()
        self._window = identity.receive_maximum
        self._publisher = Publisher(self._send)
        self._outgoing: list[bytes] = []
        self.client = make_client(identity, version)
        self._paho = paho = self.client._client  # noqa: SLF001  # See the top of this file.
        self._flow = FlowControl(paho, self.abort)
        connect = paho._create_socket  # noqa: SLF001

        def connect_with_tap() -> PublishTap:
            sock = wrap_tls(connect(), identity)
            if self._closed:  # This runs in a thread; `close` came meanwhile.
                sock.close()
                raise ConnectionAbortedError
            on_puback = self._publisher.on_puback
            return PublishTap(sock, self._on_publish, on_puback, self._flow.note_traffic)

        paho._create_socket = connect_with_tap  # type: ignore[method-assign]  # noqa: SLF001
        paho.disable_logger()  # It logs each loss as an error; the session logs it once.
        self._aiomqtt_connack = cast("Callable[..., None]", paho.on_connect)
        self._aiomqtt_disconnect = cast("Callable[..., None]", paho.on_disconnect)
        paho.on_connect, paho.on_disconnect = self._on_connack, self._on_disconnect
        paho.on_socket_register_write = self._watch_for_writing

    @property
    def no_connack(self) -> bool:
        """The broker accepted the TCP connection but did not answer CONNECT."""
        return self.connack is None and (self._closed_early or self._paho.socket() is not None)

    @property
    def lost_topics(self) -> list[str]:
        """The topics of refused messages, else of those without a PUBACK when the connection was lost."""
        return self._publisher.lost_topics

    async def until_lost(self) -> None:
        """Raise MqttError as soon as the connection is lost."""
        if self._paho.socket() is None:  # aiomqtt misses a loss right after CONNACK.
            raise aiomqtt.MqttError("The broker closed the connection right after CONNACK")
        async for _ in self.client.messages:
            pass

    async def subscribe(self, topic_filter: str) -> None:
        """Request QoS 1 and check that it is granted: with 2, paho loses messages in a crash.

        The loss is described in docs/failure-modes.md, 13. With MQTT 5 retained messages come only
        when the subscription is new to the broker.
        Raises StartError when the broker has no shared subscriptions: a retry would not help.
        """
        if topics.is_shared(topic_filter) and not self._can_share:
            raise _shared_subscription_refused(topic_filter)
        options: dict[str, Any] = {"qos": 1}
        if self.version is ProtocolVersion.V5:
            if_new = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            options = {"options": SubscribeOptions(qos=1, retainHandling=if_new)}
        granted = await self._await_answer(
            self.client.subscribe(topic_filter, timeout=math.inf, **options)
        )
        if [code.value if isinstance(code, ReasonCode) else code for code in granted] != [1]:
            if topics.is_shared(topic_filter):
                raise _shared_subscription_refused(topic_filter)
            raise BrokerUnavailable(
                f"The broker does not grant QoS 1 for {topic_filter}: allow this client to read it."
            )

    async def unsubscribe(self, topic_filter: str) -> None:
        """Return after the UNSUBACK, even when there was no such subscription."""
        await self._await_answer(self.client.unsubscribe(topic_filter, timeout=math.inf))

    async def _await_answer(self, request: Coroutine[Any, Any, T]) -> T:
        """Wait for the broker's answer, before which Mosquitto sends its whole backlog.

        Raises MqttError when neither the response nor anything else comes.
        """
        task = asyncio.create_task(request)
        try:
            while True:
                chunks = self._flow.chunks
                done, _ = await asyncio.wait((task,), timeout=ANSWER_S_MAX)
                if done:
                    return task.result()
                if chunks == self._flow.chunks and not self._flow.paused:
                    raise aiomqtt.MqttError("The broker does not answer")
        finally:
            task.cancel()

    def acknowledge(self) -> None:
        """Schedule the PUBACKs that are due; many calls share one check."""
        self._flush_soon()

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, correlation_data: bytes | None
    ) -> None:
        if self.version is ProtocolVersion.V5:
            payload = publish_properties(correlation_data) + payload
        await self._publisher.publish(topic, payload, qos=qos, retain=retain)

    def abort(self) -> None:
        """End the connection without DISCONNECT, to be handled like any loss."""
        sock: Any = self._paho.socket()
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Fail pending publishes, and end a connection that aiomqtt abandoned without closing it."""
        self._closed = True
        self._flow.close()
        self._publisher.close()
        if self._paho.socket() is not None:
            self._paho.on_disconnect = None
            self._paho.disconnect()

    def _send(self, data: bytes) -> None:
        """Send the data together with everything else from this iteration of the event loop."""
        self._outgoing.append(data)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """All of it is queued as a PUBACK: paho only checks for DISCONNECT and for PUBLISH of QoS 0."""
        self._flushing = False
        data = b"".join((*self._outgoing, wire.pubacks(self._due())))
        self._outgoing.clear()
        if data:
            self._paho._packet_queue(PacketType.PUBACK << 4, data, 0, 1)  # noqa: SLF001
        if self._flow.paused and len(self._unacknowledged) < self._window:
            self._flow.resume_reading()

    def _due(self) -> list[int]:
        """The packet ids to acknowledge now, in the order of arrival [MQTT-4.6.0-2]."""
        waiting, due = self._unacknowledged, []
        while waiting and waiting[0].done:
            due.append(waiting.popleft().mid)
        return due

    def _watch_for_writing(self, client: Client, _userdata: Any, sock: Any) -> None:
        """Called from any thread. aiomqtt would even watch a socket that was closed meanwhile."""

        def watch() -> None:
            alive = client.socket() is sock
            if alive:
                self._loop.add_writer(sock.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(watch)

    def _on_publish(self, first: int, body: bytes) -> None:
        delivery = Delivery.parse(first, body, self._generation, mqtt5=self._mqtt5)
        if delivery.qos:
            self._unacknowledged.append(delivery)
            if len(self._unacknowledged) > self._window:
                self._flow.pause_reading()
        try:
            self._on_delivery(delivery)
        except Exception:
            # If this error propagated, it would end this connection and, once the message is
            # redelivered, the next one. The message stays unacknowledged and blocks no other.
            log.exception("A received message could not be processed.", topic=delivery.topic)
            if delivery in self._unacknowledged:
                self._unacknowledged.remove(delivery)

    def _on_connack(
        self,
        client: Client,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.connack, self.session_present = reason, flags.session_present
        self._publisher.set_receive_maximum(getattr(properties, "ReceiveMaximum", WINDOW_MAX))
        self._can_share = bool(getattr(properties, "SharedSubscriptionAvailable", True))
        self._aiomqtt_connack(client, userdata, flags, reason, properties)

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._publisher.on_loss()
        if self.connack is None:  # aiomqtt would wait for it until its timeout.
            self._closed_early = True
            self._aiomqtt_connack(client, userdata, ConnectFlags(False), NO_CONNACK, None)
        self._aiomqtt_disconnect(client, userdata, flags, reason, properties)


def _shared_subscription_refused(topic_filter: str) -> StartError:
    return StartError(
        f"The broker does not grant {topic_filter}, which several ingestors need: allow it, use a"
        " broker with shared subscriptions, or start with --workers 1."
    )
