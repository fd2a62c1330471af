"""How a session presents itself to the broker, and the library's client made from that."""

import ssl
from dataclasses import dataclass
from typing import Any

import aiomqtt
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.wire import SESSION_EXPIRY_S
from runtime.addresses import MqttAddress
from runtime.errors import StartError

ANSWER_S_MAX = 5  # For CONNACK, SUBACK and the end of DISCONNECT.


@dataclass(frozen=True)
class ClientIdentity:
    """The options that all connections of a session share."""

    address: MqttAddress
    client_id: str
    tls: ssl.SSLContext | None
    keepalive_s: int
    receive_maximum: int
    will: tuple[str, bytes] | None = None  # Topic and payload; QoS 1, retained.
    session_expiry_s: int = SESSION_EXPIRY_S  # 0: the session ends with its connection.


def tls_context(address: MqttAddress) -> ssl.SSLContext | None:
    """Raises StartError if a file cannot be used."""
    if not address.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        if address.cert_file is not None:
            context.load_cert_chain(address.cert_file, address.key_file)
    except OSError as error:  # Also ssl.SSLError.
        raise StartError(
            f"The certificates for MQTT cannot be used ({error}): "
            "check MQTT_CA_FILE, MQTT_CERT_FILE and MQTT_KEY_FILE."
        ) from error
    return context


def wrap_tls(sock: Any, identity: ClientIdentity) -> Any:
    """TLS is set up here because paho leaves the socket open when it rejects the certificate."""
    if identity.tls is None:
        return sock
    return identity.tls.wrap_socket(sock, server_hostname=identity.address.host)


def make_client(identity: ClientIdentity, version: ProtocolVersion) -> aiomqtt.Client:
    """A client whose session the broker keeps between connections; each version has options for it."""
    clean = not identity.session_expiry_s
    session_options: dict[str, Any] = {"clean_session": clean}
    if version is ProtocolVersion.V5:
        properties = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=identity.session_expiry_s,
            ReceiveMaximum=identity.receive_maximum,
        )
        session_options = {"clean_start": clean, "properties": properties}
    return aiomqtt.Client(
        identity.address.host,
        identity.address.port,
        identifier=identity.client_id,
        username=identity.address.username or _user(identity),
        password=identity.address.password,
        protocol=version,
        keepalive=identity.keepalive_s,
        timeout=ANSWER_S_MAX,
        will=identity.will and aiomqtt.Will(*identity.will, qos=1, retain=True),
        **session_options,
    )


def _user(identity: ClientIdentity) -> str | None:
    """A password needs a user name [MQTT-3.1.2-22]."""
    return identity.client_id if identity.address.password else None


def _properties(packet_type: int, **values: object) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        if value is not None:
            setattr(properties, name, value)
    return properties


def publish_properties(correlation_data: bytes | None) -> bytes:
    """The encoded properties of a PUBLISH, which precede its payload."""
    if correlation_data is None:
        return b"\0"
    properties = _properties(PacketTypes.PUBLISH, CorrelationData=correlation_data)
    encoded: bytes = properties.pack()  # type: ignore[no-untyped-call]
    return encoded
