"""A publisher in a process of its own: QoS 1, a bounded window, every PUBACK counted.

python -m benchmarks.load PORT MESSAGES EVENTS_PER_MESSAGE DEVICES DUPLICATES_PERCENT
prints one JSON line: messages, acknowledged, seconds.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

WINDOW = 2000
CONNECT = bytes.fromhex("10") + bytes([22]) + b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x0abench-load"
PUBACK_BYTES = 4
START_MS = 1_790_000_000_000


def remaining_length(length: int) -> bytes:
    """[MQTT-2.2.3]: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(encoded)


def event(number: int) -> str:
    return (
        f'{{"event_id":"{number:012d}","ts":{START_MS + number},"metrics":{{"soc_percent":67.5,'
        f'"voltage_v":385.2,"current_a":-45.3,"temp_c":28.4}},"tags":["room:101"]}}'
    )


class Publisher(asyncio.Protocol):
    """Fills the window again whenever acknowledgements came."""

    def __init__(self, messages: int, size: int, devices: int, duplicates: float) -> None:
        self.messages, self.size, self.devices = messages, size, devices
        self.every = round(100 / duplicates) if duplicates else 0
        self.sent = self.acknowledged = 0
        self.begun = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(CONNECT)

    def data_received(self, data: bytes) -> None:
        if not self.begun:
            self.begun = time.perf_counter()
            data = data[4:]  # CONNACK
        data = self.rest + data
        count, rest = divmod(len(data), PUBACK_BYTES)
        self.rest = data[len(data) - rest :] if rest else b""
        self.acknowledged += count
        if self.acknowledged >= self.messages:
            self.done.set_result(time.perf_counter() - self.begun)
            self.transport.close()
        else:
            self.fill()

    def fill(self) -> None:
        packets = bytearray()
        while self.sent < self.messages and self.sent - self.acknowledged < WINDOW:
            packets += self.packet(self.sent)
            self.sent += 1
        self.transport.write(bytes(packets))

    def packet(self, n: int) -> bytes:
        if self.every and n // self.devices % self.every == self.every - 1:
            n -= self.devices  # each device repeats what it sent before
        topic = b"devices/d%d/telemetry" % (n % self.devices)
        numbers = range(n * self.size, (n + 1) * self.size)
        text = event(n) if self.size == 1 else f"[{','.join(map(event, numbers))}]"
        mid = n % 65_000 + 1
        body = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big") + text.encode()
        return b"\x32" + remaining_length(len(body)) + body


async def main(port: int, messages: int, size: int, devices: int, duplicates: float) -> None:
    _, publisher = await asyncio.get_running_loop().create_connection(
        lambda: Publisher(messages, size, devices, duplicates), "127.0.0.1", port
    )
    seconds = await publisher.done
    print(json.dumps({"acknowledged": publisher.acknowledged, "seconds": seconds}))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:5]]
    uvloop.run(main(*numbers, duplicates=float(sys.argv[5])))
