"""Who a session is to the broker, and a client of the library made of that."""

import ssl
from dataclasses import dataclass
from typing import Any

import aiomqtt
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from runtime.addresses import MqttAddress

ANSWER_S_MAX = 5  # For CONNACK, SUBACK and the end of DISCONNECT.
SESSION_EXPIRY_S = 7 * 24 * 3600  # MQTT 5: without it the session ends with the connection (F7).


@dataclass(frozen=True)
class ClientIdentity:
    """What every connection of one session has in common."""

    address: MqttAddress
    client_id: str
    tls: ssl.SSLContext | None
    keepalive_s: int
    receive_maximum: int
    will: tuple[str, bytes] | None = None  # Topic and payload; QoS 1, retained.
    session_expiry_s: int = SESSION_EXPIRY_S  # 0: the broker forgets us when the connection ends.


def secured(sock: Any, identity: ClientIdentity) -> Any:
    """Not by paho, which leaves the socket open when it does not like the certificate."""
    if identity.tls is None:
        return sock
    return identity.tls.wrap_socket(sock, server_hostname=identity.address.host)


def client_of(identity: ClientIdentity, version: ProtocolVersion) -> aiomqtt.Client:
    """A client whose session the broker keeps while we are away; the versions say that differently."""
    clean = not identity.session_expiry_s
    kept: dict[str, Any] = {"clean_session": clean}
    if version is ProtocolVersion.V5:
        properties = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=identity.session_expiry_s,
            ReceiveMaximum=identity.receive_maximum,
        )
        kept = {"clean_start": clean, "properties": properties}
    return aiomqtt.Client(
        identity.address.host,
        identity.address.port,
        identifier=identity.client_id,
        username=identity.address.username,
        password=identity.address.password,
        protocol=version,
        keepalive=identity.keepalive_s,
        timeout=ANSWER_S_MAX,
        will=identity.will and aiomqtt.Will(*identity.will, qos=1, retain=True),
        **kept,
    )


def _properties(packet_type: int, **values: object) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


def packed(correlation_data: bytes | None) -> bytes:
    """The properties of a PUBLISH as they stand before its payload."""
    if correlation_data is None:
        return b"\0"
    packed: bytes = _properties(PacketTypes.PUBLISH, CorrelationData=correlation_data).pack()  # type: ignore[no-untyped-call]
    return packed
