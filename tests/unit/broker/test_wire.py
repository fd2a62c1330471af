import pytest

from broker import wire

PUBLISH = wire.publish("devices/a/telemetry", b"x" * 200, qos=1, retain=True, mid=515, dup=True)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 206, 1000])
def test_packets_are_split_the_same_however_they_arrive(step: int) -> None:
    stream = PUBLISH + wire.pubacks([1, 2]) + PUBLISH + wire.packet(0xD0, b"")
    framer = wire.PacketFramer()
    packets = []
    for start in range(0, len(stream), step):
        packets += framer.split(stream[start : start + step])
    assert [first for first, _ in packets] == [0x3B, 0x40, 0x40, 0x3B, 0xD0]
    assert b"".join(wire.packet(*packet) for packet in packets) == stream


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_packet_of_any_length_is_read_as_it_was_built(length: int) -> None:
    body = b"x" * length
    assert wire.PacketFramer().split(wire.packet(0x30, body)) == [(0x30, body)]


@pytest.mark.parametrize("start", [b"\x30\xff\xff\xff\x7f", b"\x30\x80\x80\x80\x80\x01"])
def test_a_length_beyond_the_limit_or_the_standard_ends_the_stream(start: bytes) -> None:
    with pytest.raises(ConnectionError):
        wire.PacketFramer().split(start)


def test_a_publish_is_read_as_it_was_built() -> None:
    ((first, body),) = wire.PacketFramer().split(PUBLISH)
    assert first & 8
    topic = "devices/a/telemetry"
    assert wire.parse_publish(first, body) == (topic, b"x" * 200, 1, True, 515)


def test_a_publish_of_qos_0_has_no_packet_id() -> None:
    ((first, body),) = wire.PacketFramer().split(wire.publish("a", b"1", qos=0, retain=False))
    assert wire.parse_publish(first, body) == ("a", b"1", 0, False, 0)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\x01a", b"\0\x01a\0"])
def test_a_publish_that_is_too_short_ends_the_stream(body: bytes) -> None:
    with pytest.raises(ConnectionError):
        wire.parse_publish(0x32, body)


def test_a_topic_that_is_not_utf_8_matches_no_device() -> None:
    assert wire.parse_publish(0x30, b"\0\x02\xff\xfe")[0] == "\ufffd\ufffd"
