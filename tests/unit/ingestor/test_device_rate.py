"""MQTT_RATE_LIMIT counts events as the pipeline does, and leaves alone what waited in the broker."""

import json

import pytest
from structlog.testing import capture_logs

from ingestor.mqtt.device_rate import DeviceRate

EVENT = b'{"metrics":{"x":1}}'
BYTES_MAX = 100_000


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> DeviceRate:
    """Two events a second, so twenty at once; the first connection has caught up."""
    rate = DeviceRate(2, BYTES_MAX, clock)
    rate.caught_up(1)
    return rate


def array(items: int) -> bytes:
    return json.dumps([{"metrics": {"x": 1}}] * items).encode()


def test_ten_seconds_worth_pass_at_once_and_then_the_rate(rate: DeviceRate, clock: Clock) -> None:
    assert [rate.excess("a", EVENT, 1) for _ in range(22)] == [0] * 20 + [1, 1]
    clock.now += 1
    assert [rate.excess("a", EVENT, 1) for _ in range(3)] == [0, 0, 1]
    assert rate.excess("b", EVENT, 1) == 0


def test_a_message_is_dropped_whole(rate: DeviceRate) -> None:
    assert [rate.excess("a", array(15), 1), rate.excess("a", array(6), 1)] == [0, 6]
    assert rate.excess("a", array(5), 1) == 0


@pytest.mark.parametrize(
    ("payload", "events"),
    [
        (EVENT, 1),
        (array(7), 7),
        (b"\n  " + array(7), 7),
        (array(7) + b"\0\0", 7),
        (b'[{"metrics":{"x":NaN}},{"metrics":{"x":1}}]', 2),
        (b'[1,"a",null]', 3),
        (b"[]", 1),
        (b"[1,", 1),
        (b"[1,2] 3", 1),
        (b"\xff", 1),
        (array(1000), 1000),
        (array(1001), 1),  # One dead letter.
        (b"[" + b" " * BYTES_MAX + b"1,2]", 1),
        (b"[" * 50_000, 1),
    ],
)
def test_events_are_counted_as_in_the_pipeline(
    rate: DeviceRate, payload: bytes, events: int
) -> None:
    rate.excess("a", EVENT, 1)
    for _ in range(19):
        rate.excess("a", EVENT, 1)
    assert rate.excess("a", payload, 1) == events


def test_what_waited_in_the_broker_is_not_limited(rate: DeviceRate) -> None:
    assert not any(rate.excess("a", EVENT, 2) for _ in range(1000))
    rate.caught_up(2)
    assert [rate.excess("a", EVENT, 2) for _ in range(21)] == [0] * 20 + [1]


def test_a_device_is_named_once_a_minute(rate: DeviceRate, clock: Clock) -> None:
    with capture_logs() as logs:
        for _ in range(1000):
            for device_id in ("a", "b"):
                rate.excess(device_id, array(10), 1)
            clock.now += 0.1
    named = [each["device_id"] for each in logs]
    assert (named.count("a"), named.count("b")) == (2, 2)
