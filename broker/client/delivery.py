"""A received message, from the socket to its acknowledgement."""

import msgspec
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from broker import wire

NO_PROPERTIES = b"\0"  # Nearly every message has none.
# Longer ones are left out, with their response topic. A queue of receipts would hold 65 KB for each,
# here and in Mosquitto, whose limit of bytes counts payloads only.
CORRELATION_BYTES_MAX = 1024

log = structlog.get_logger()


class Delivery(msgspec.Struct, eq=False, gc=False):
    """A message of QoS 1 is acknowledged only on the connection that it came by, its `generation`.

    Only MQTT 5 has a response topic and correlation data.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    generation: int
    response_topic: str | None = None
    correlation_data: bytes | None = None
    done: bool = False

    @classmethod
    def parse(cls, first: int, body: bytes, generation: int, *, mqtt5: bool) -> "Delivery":
        """Raises ConnectionError when the packet is not a valid PUBLISH."""
        delivery = cls(*wire.parse_publish(first, body), generation)
        if mqtt5:
            if delivery.payload[:1] == NO_PROPERTIES:
                delivery.payload = delivery.payload[1:]
            else:
                delivery._take_properties()
        return delivery

    def _take_properties(self) -> None:
        """Separate the properties of MQTT 5 from the payload."""
        size, digits = VariableByteIntegers.decode(self.payload)  # type: ignore[no-untyped-call]
        encoded, self.payload = self.payload[: digits + size], self.payload[digits + size :]
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        try:
            properties.unpack(encoded)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001  # If it propagated, the broker would redeliver the message endlessly.
            log.warning("The properties of a message cannot be read.", error=repr(error))
        correlation_data = getattr(properties, "CorrelationData", None)
        if len(correlation_data or b"") <= CORRELATION_BYTES_MAX:
            self.response_topic = getattr(properties, "ResponseTopic", None)
            self.correlation_data = correlation_data
