"""What a received message of MQTT 5 carries beside its payload."""

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker.client.delivery import CORRELATION_BYTES_MAX, Delivery

TOPIC, RESPONSE_TOPIC = b"devices/a/telemetry", "devices/a/receipts/7"


def received(correlation_data: bytes) -> Delivery:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic, properties.CorrelationData = RESPONSE_TOPIC, correlation_data
    body = len(TOPIC).to_bytes(2) + TOPIC + b"\0\1" + properties.pack() + b"1"  # type: ignore[no-untyped-call]
    return Delivery.parse(0x32, body, 1, mqtt5=True)


@pytest.mark.parametrize("size", [0, 1, CORRELATION_BYTES_MAX])
def test_correlation_data_comes_with_its_response_topic(size: int) -> None:
    delivery = received(b"x" * size)
    assert (delivery.payload, delivery.response_topic) == (b"1", RESPONSE_TOPIC)
    assert delivery.correlation_data == b"x" * size


def test_correlation_data_that_is_too_long_leaves_the_message_without_a_response_topic() -> None:
    delivery = received(b"x" * (CORRELATION_BYTES_MAX + 1))
    assert (delivery.topic, delivery.payload) == (TOPIC.decode(), b"1")
    assert (delivery.response_topic, delivery.correlation_data) == (None, None)
