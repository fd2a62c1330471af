"""Framing, parsing and building of PUBLISH and PUBACK, the packets that come by the ten thousand.

The libraries handle the other packets. The session and the embedded broker both use this module.
A malformed stream raises ConnectionError, because nothing after the fault can be read.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum

# More than the largest MAX_PAYLOAD_BYTES (8 MiB) and a topic, as in mosquitto.conf: a payload above
# the limit must still arrive to become a dead letter.
PACKET_BYTES_MAX = 9 * 1024 * 1024
# Without it an MQTT 5 session ends with its connection (docs/failure-modes.md, 7).
SESSION_EXPIRY_S = 7 * 24 * 3600
PUBACK_WORD = 0x4002_0000  # Type and remaining length; the packet id is added to it.
LENGTH_DIGITS_MAX = 4  # [MQTT-2.2.3]
ANOTHER_DIGIT = 0x80


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte [MQTT-2.2.1]."""

    CONNECT = 1
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class PacketFramer:
    """Splits a stream into packets: for each, its first byte and the bytes after the remaining length.

    It keeps the start of an incomplete packet until the next chunks of the stream complete it. The first
    packet may have a limit of its own.
    """

    def __init__(self, first_bytes_max: int = PACKET_BYTES_MAX) -> None:
        self._bytes_max = first_bytes_max
        self._rest = bytearray()
        self._needed = 0  # The rest holds no complete packet until it has so many bytes.

    @property
    def incomplete(self) -> bytes:
        """The first byte of an incomplete packet, if there is one."""
        return bytes(self._rest[:1])

    def split(self, chunk: bytes) -> list[tuple[int, bytes]]:
        buffer = chunk
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._needed:
                return []
            buffer = bytes(self._rest)
        size, start, self._needed = len(buffer), 0, 0
        packets = []
        while start + 1 < size:
            body, length, shift, digit = start + 1, 0, 0, ANOTHER_DIGIT
            while digit & ANOTHER_DIGIT and body < size:
                digit = buffer[body]
                length |= (digit & 0x7F) << shift
                shift, body = shift + 7, body + 1
            if length > self._bytes_max or body - start > LENGTH_DIGITS_MAX + 1:
                raise ConnectionError(f"A packet is larger than {self._bytes_max} bytes.")
            if digit & ANOTHER_DIGIT:
                break
            end = body + length
            if end > size:
                self._needed = end - start
                break
            packets.append((buffer[start], buffer[body:end]))
            start, self._bytes_max = end, PACKET_BYTES_MAX
        self._rest = bytearray(buffer[start:])
        return packets


def packet(first: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (ANOTHER_DIGIT if length else 0))
        if not length:
            return b"".join((bytes((first,)), digits, body))


def parse_publish(first: int, body: bytes) -> tuple[str, bytes, int, bool, int]:
    """Topic, payload, QoS, retain flag and packet id (QoS 0: 0) of a PUBLISH [MQTT-3.3].

    With MQTT 5 the payload still starts with the properties. Invalid UTF-8 in a topic becomes
    replacement characters, so that the topic matches no device.
    """
    qos = first >> 1 & 3
    try:
        end = 2 + (body[0] << 8 | body[1])
        mid = body[end] << 8 | body[end + 1] if qos else 0
    except IndexError:
        raise ConnectionError("A PUBLISH ends before its payload.") from None
    if end > len(body):
        raise ConnectionError("A PUBLISH ends within its topic.")
    payload = body[end + 2 :] if qos else body[end:]
    return body[2:end].decode("utf-8", "replace"), payload, qos, bool(first & 1), mid


def publish(
    topic: str, payload: bytes, *, qos: int, retain: bool, mid: int = 0, dup: bool = False
) -> bytes:
    name = topic.encode()
    packet_id = mid.to_bytes(2) if qos else b""
    first = PacketType.PUBLISH << 4 | dup << 3 | qos << 1 | retain
    return packet(first, b"".join((len(name).to_bytes(2), name, packet_id, payload)))


def pubacks(mids: Iterable[int]) -> bytes:
    """Several PUBACKs in one buffer take one entry in the library's queue and one system call."""
    words = [PUBACK_WORD | mid for mid in mids]
    return struct.pack(f">{len(words)}I", *words)


def acknowledgement(packet_type: PacketType, mid: int) -> bytes:
    """A PUBACK, PUBREC, PUBCOMP or UNSUBACK, which carries only the packet id [MQTT-3.4]."""
    return packet(packet_type << 4, mid.to_bytes(2))
