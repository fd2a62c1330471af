"""One MQTT connection of a session, from CONNECT until it is lost.

aiomqtt 2.5 acknowledges a message before our code has seen it, keeps CONNACK's session_present and
PUBACK's reason code to itself, and lets a publish wait when the connection is gone. The paho client
inside it can do better. Three private names are touched, in this file alone: `_client`, to reach it;
its `_create_socket`, to put an Intake before the socket; its `_packet_queue`, to send PUBACKs in bulk.
The releases are pinned; tests/integration/test_session.py fails when others behave differently.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import aiomqtt
import structlog
from aiomqtt import ProtocolVersion
from paho.mqtt.client import MQTT_ERR_SUCCESS, PUBACK, Client, ConnectFlags, DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker import wire
from broker.delivery import Delivery
from broker.intake import Intake
from schema.errors import BrokerUnavailable
from schema.settings import MqttAddress

ANSWER_S_MAX = 5  # For CONNACK, SUBACK and the end of DISCONNECT.
PUBACK_S_MAX = 10
SESSION_EXPIRY_S = 7 * 24 * 3600  # MQTT 5: without it the session ends with the connection (F7).
PUBLISH_WINDOW = 100  # Unacknowledged messages that we send; the others wait inside paho.
HUNG_UP = ReasonCode(PacketTypes.CONNACK, "Server unavailable")

log = structlog.get_logger()


@dataclass(frozen=True)
class Identity:
    """What every connection of one session has in common."""

    address: MqttAddress
    client_id: str
    tls: ssl.SSLContext | None
    keepalive_s: int
    receive_maximum: int
    will: tuple[str, bytes] | None = None  # Topic and payload; QoS 1, retained.


class Connection:
    """Never used again once it is lost: its packet ids mean nothing on the next one (F14)."""

    def __init__(
        self,
        identity: Identity,
        version: ProtocolVersion,
        generation: int,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        self.version = version
        self.connack: ReasonCode | None = None
        self.session_present = False
        self._generation, self._on_delivery = generation, on_delivery
        self._hung_up = self._acknowledging = self._closed = False
        self._unacknowledged: deque[Delivery] = deque()
        self._publishing: dict[int, asyncio.Future[ReasonCode]] = {}
        self.client = _client(identity, version)
        self._paho = paho = self.client._client  # noqa: SLF001  # See the top of this file.
        connect = paho._create_socket  # noqa: SLF001

        def connect_with_intake() -> Intake:  # In a thread: meanwhile we may have been closed.
            sock = _secured(connect(), identity)
            if self._closed:
                sock.close()
                raise ConnectionAbortedError
            return Intake(sock, self._take)

        paho._create_socket = connect_with_intake  # type: ignore[method-assign]  # noqa: SLF001
        paho.disable_logger()  # It calls every lost link an error; the session logs that once.
        self._aiomqtt_connack = cast("Callable[..., None]", paho.on_connect)
        self._aiomqtt_loss = cast("Callable[..., None]", paho.on_disconnect)
        paho.on_connect, paho.on_disconnect = self._take_connack, self._take_loss
        paho.on_publish = self._take_puback

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
        """
        wanted: dict[str, Any] = {"qos": 1}
        if self.version is ProtocolVersion.V5:
            if_new = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            wanted = {"options": SubscribeOptions(qos=1, retainHandling=if_new)}
        granted = await self.client.subscribe(topic_filter, **wanted)
        if [code.value if isinstance(code, ReasonCode) else code for code in granted] != [1]:
            raise BrokerUnavailable(
                f"The broker does not grant QoS 1 for {topic_filter}: allow this client to read it."
            )

    def acknowledge(self) -> None:
        """Send the PUBACKs that are due, soon: what is settled one by one leaves in one piece."""
        if not self._acknowledging and self._unacknowledged and self._unacknowledged[0].done:
            self._acknowledging = True
            asyncio.get_running_loop().call_soon(self._send_pubacks)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, correlation_data: bytes | None
    ) -> None:
        properties = _properties(PacketTypes.PUBLISH, CorrelationData=correlation_data)
        info = self._paho.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise BrokerUnavailable("The connection to the broker is lost: publish again later.")
        if qos == 0:
            return
        reason = await self._puback(info.mid)
        if reason.is_failure:
            raise BrokerUnavailable(f"The broker refused a message for {topic}: {reason}.")

    def close(self) -> None:
        """Fail what still waits, and end a connection that aiomqtt gave up without closing it."""
        self._closed = True
        for puback in self._publishing.values():
            if not puback.done():
                puback.set_exception(
                    BrokerUnavailable("The connection to the broker was lost before the PUBACK.")
                )
        if self._paho.socket() is not None:
            self._paho.on_disconnect = None
            self._paho.disconnect()

    async def _puback(self, mid: int) -> ReasonCode:
        puback: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._publishing[mid] = puback
        try:
            async with asyncio.timeout(PUBACK_S_MAX):
                return await puback
        except TimeoutError:
            raise BrokerUnavailable(f"The broker sent no PUBACK in {PUBACK_S_MAX} s.") from None
        finally:
            del self._publishing[mid]

    def _send_pubacks(self) -> None:
        """In the order of arrival [MQTT-4.6.0-2]: up to the first message that is not settled."""
        self._acknowledging = False
        waiting, due = self._unacknowledged, []
        while waiting and waiting[0].done:
            due.append(waiting.popleft().mid)
        if due:
            self._paho._packet_queue(PUBACK, wire.pubacks(due), 0, 1)  # noqa: SLF001

    def _take(self, first: int, body: bytes) -> None:
        mqtt5 = self.version is ProtocolVersion.V5
        delivery = Delivery.parse(first, body, self._generation, mqtt5=mqtt5)
        if delivery.qos:
            self._unacknowledged.append(delivery)
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

    def _take_puback(
        self, _client: Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        puback = self._publishing.get(mid)
        if puback is not None and not puback.done():
            puback.set_result(reason)


def _secured(sock: Any, identity: Identity) -> Any:
    """Not by paho, which leaves the socket open when it does not like the certificate."""
    if identity.tls is None:
        return sock
    return identity.tls.wrap_socket(sock, server_hostname=identity.address.host)


def _client(identity: Identity, version: ProtocolVersion) -> aiomqtt.Client:
    """A client whose session the broker keeps while we are away; the versions say that differently."""
    kept: dict[str, Any] = {"clean_session": False}
    if version is ProtocolVersion.V5:
        properties = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=SESSION_EXPIRY_S,
            ReceiveMaximum=identity.receive_maximum,
        )
        kept = {"clean_start": False, "properties": properties}
    return aiomqtt.Client(
        identity.address.host,
        identity.address.port,
        identifier=identity.client_id,
        username=identity.address.username,
        password=identity.address.password,
        protocol=version,
        keepalive=identity.keepalive_s,
        timeout=ANSWER_S_MAX,
        max_inflight_messages=PUBLISH_WINDOW,
        will=identity.will and aiomqtt.Will(*identity.will, qos=1, retain=True),
        **kept,
    )


def _properties(packet_type: int, **values: object) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, value)
    return properties
