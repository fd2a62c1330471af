"""The two MQTT packets that pass by the ten thousand, PUBLISH and PUBACK, cut and built in bulk.

The libraries handle the other packets. Both ends use this: our session and the embedded broker.
A stream that makes no sense raises ConnectionError: nothing after that point can be read.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum

# Above the largest MAX_PAYLOAD_BYTES (8 MiB) and its topic, as in mosquitto.conf: what is too large
# for us shall still arrive, to become a dead letter.
PACKET_BYTES_MAX = 9 * 1024 * 1024
PUBACK_WORD = 0x4002_0000  # A PUBACK without its packet id: type and remaining length.
LENGTH_DIGITS_MAX = 4  # [MQTT-2.2.3]
ANOTHER_DIGIT = 0x80


class PacketType(IntEnum):
    """The upper half of a packet's first byte [MQTT-2.2.1]."""

    CONNECT = 1
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    UNSUBSCRIBE = 10
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class PacketFramer:
    """Cuts a stream into packets, each its first byte and what follows the remaining length.

    The beginning of a packet that is not complete yet waits for the next pieces of the stream.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0  # Bytes from the beginning of the rest on; below it, looking is in vain.

    def cut(self, piece: bytes) -> list[tuple[int, bytes]]:
        buffer = piece
        if self._rest:
            self._rest += piece
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
            if length > PACKET_BYTES_MAX or body - start > LENGTH_DIGITS_MAX + 1:
                raise ConnectionError(f"A packet is larger than {PACKET_BYTES_MAX} bytes.")
            if digit & ANOTHER_DIGIT:
                break
            end = body + length
            if end > size:
                self._needed = end - start
                break
            packets.append((buffer[start], buffer[body:end]))
            start = end
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

    With MQTT 5 the properties still stand before the payload. A topic that is not UTF-8 gets
    replacement characters, with which it belongs to nobody.
    """
    qos = first >> 1 & 3
    try:
        end = 2 + (body[0] << 8 | body[1])
        mid = body[end] << 8 | body[end + 1] if qos else 0
    except IndexError:
        raise ConnectionError("A PUBLISH ends before its payload.") from None
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
    """Several at once: one entry in the library's queue and one system call, not one for each."""
    words = [PUBACK_WORD | mid for mid in mids]
    return struct.pack(f">{len(words)}I", *words)


def answer(packet_type: PacketType, mid: int) -> bytes:
    """PUBACK, PUBREC or PUBCOMP, which carry nothing but the packet id [MQTT-3.4]."""
    return packet(packet_type << 4, mid.to_bytes(2))
