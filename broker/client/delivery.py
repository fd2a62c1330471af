"""A received message on its way from the socket to the acknowledgement."""

import msgspec
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from broker import wire

NO_PROPERTIES = b"\0"  # Nearly every message has none.

log = structlog.get_logger()


class Delivery(msgspec.Struct, eq=False, gc=False):
    """With QoS 1 it is owed an acknowledgement, on its own connection only: `generation` names that.

    Response topic and correlation data come with MQTT 5.
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
        """Raises ConnectionError when this is no PUBLISH packet."""
        delivery = cls(*wire.parse_publish(first, body), generation)
        if mqtt5:
            if delivery.payload[:1] == NO_PROPERTIES:
                delivery.payload = delivery.payload[1:]
            else:
                delivery._take_properties()
        return delivery

    def _take_properties(self) -> None:
        """Cut off what MQTT 5 puts before the payload."""
        size, digits = VariableByteIntegers.decode(self.payload)  # type: ignore[no-untyped-call]
        packed, self.payload = self.payload[: digits + size], self.payload[digits + size :]
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        try:
            properties.unpack(packed)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001  # Raised further, the message would return for ever.
            log.warning("The properties of a message are unreadable.", error=repr(error))
        self.response_topic = getattr(properties, "ResponseTopic", None)
        self.correlation_data = getattr(properties, "CorrelationData", None)
