"""The events that every benchmark sends, and the MQTT packets that carry them."""

import time
import uuid
from dataclasses import dataclass
from random import Random

DEVICES = 1000
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
METRICS = '{"soc_percent":67.5,"voltage_v":385.2,"current_a":-45.3,"temp_c":28.4}'
TAG = "room:101"

CONNACK_BYTES = PUBACK_BYTES = 4
MIDS = 65_000


def yesterday_ms() -> int:
    """The time of the first event: never in the future, always in an existing partition."""
    return int(time.time() * 1000) - DAY_MS


@dataclass(frozen=True)
class Events:
    """Makes events from numbers. `growing` ids are the number itself, `uuid` ids are random.

    Each device sends every DEVICES-th message, so its ids grow.
    """

    ids: str = "growing"
    start_ms: int = 0

    def event(self, number: int, device_id: str | None = None) -> str:
        event_id = f"{number:012d}" if self.ids == "growing" else str(uuid.uuid4())
        device = "" if device_id is None else f'"device_id":"{device_id}",'
        return (
            f'{{{device}"event_id":"{event_id}","ts":{self.start_ms + number},'
            f'"metrics":{METRICS},"tags":["{TAG}"]}}'
        )

    def payload(self, message: int, size: int) -> bytes:
        if size == 1:
            return self.event(message).encode()
        numbers = range(message * size, (message + 1) * size)
        return f"[{','.join(map(self.event, numbers))}]".encode()


def repeats(messages: int, percent: float) -> set[int]:
    """Which messages repeat the previous one of their device; equal arguments give equal results."""
    count = min(round(messages * percent / 100), max(0, messages - DEVICES))
    return set(Random(1).sample(range(DEVICES, messages), count)) if count else set()


def connect(client_id: str) -> bytes:
    """A CONNECT packet: MQTT 3.1.1, clean session, no keep-alive."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
    return b"\x10" + _remaining_length(len(body)) + body


def publish(device_id: str, mid: int, payload: bytes) -> bytes:
    """A PUBLISH packet with QoS 1."""
    topic = f"devices/{device_id}/telemetry".encode()
    body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + payload
    return b"\x32" + _remaining_length(len(body)) + body


def _remaining_length(length: int) -> bytes:
    """Encode as in MQTT 3.1.1, section 2.2.3: seven bits per byte, the lowest first."""
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(encoded)
