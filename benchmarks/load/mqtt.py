"""A publisher in a separate process: QoS 1, packets built before the clock starts, PUBACKs counted.

python -m benchmarks.load.mqtt PLAN, where PLAN is the JSON of `PublishPlan`. It prints one JSON line when it
is ready and one at its end. Each line on its standard input is the number of messages that are settled in
the database; the first one starts the clock.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from benchmarks.load.events import (
    CONNACK_BYTES,
    DEVICES,
    MIDS,
    PUBACK_BYTES,
    Events,
    connect,
    publish,
    repeats,
)

WINDOW = 2000  # Messages that the broker has not acknowledged.
TICK_S = 0.002


@dataclass(frozen=True)
class PublishPlan:
    """`first` is the number of the first message; `rate` 0 means as fast as the window allows.

    `ahead_max` limits the messages that are sent and not settled; 0 means no limit.
    """

    port: int
    messages: int
    size: int = 1
    duplicates_percent: float = 0.0
    first: int = 0
    ids: str = "growing"
    start_ms: int = 0
    rate: float = 0.0
    ahead_max: int = 0

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def build(plan: PublishPlan) -> list[bytes]:
    events = Events(plan.ids, plan.start_ms)
    repeated = repeats(plan.messages, plan.duplicates_percent)
    payloads: list[bytes] = []
    packets: list[bytes] = []
    for n in range(plan.messages):
        payload = (
            payloads[n - DEVICES] if n in repeated else events.payload(plan.first + n, plan.size)
        )
        payloads.append(payload)
        packets.append(publish(f"d{(plan.first + n) % DEVICES}", n % MIDS + 1, payload))
    return packets


class LoadPublisher(asyncio.Protocol):
    """Refills the window after each acknowledgement, or sends at a fixed rate."""

    def __init__(self, plan: PublishPlan, packets: list[bytes]) -> None:
        self.plan, self.packets = plan, packets
        self.sent = self.acknowledged = self.settled = 0
        self.skip = CONNACK_BYTES
        self.rest = b""
        self.started: float | None = None
        self.behind_s_max = 0.0  # How far the sender itself fell behind the fixed rate.
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[float] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(connect(f"bench-load-{os.getpid()}"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("The broker closed the connection."))

    def data_received(self, data: bytes) -> None:
        if self.skip:
            skipped = min(self.skip, len(data))
            self.skip, data = self.skip - skipped, data[skipped:]
        length = len(self.rest) + len(data)
        self.rest = (self.rest + data)[length - length % PUBACK_BYTES :]
        self.acknowledged += length // PUBACK_BYTES
        if self.acknowledged >= self.plan.messages and not self.done.done():
            self.done.set_result(time.perf_counter() - (self.started or 0.0))
            self.transport.close()
        elif self.started is not None and not self.plan.rate:
            self.fill()

    def read_settled(self) -> None:
        """Read the lines on standard input."""
        lines = os.read(0, 65536).split()
        if not lines:
            self.loop.remove_reader(0)
            return
        self.settled = max(map(int, lines))
        if self.started is None:
            self.started = time.perf_counter()
            if self.plan.rate:
                self.tick()
        if not self.plan.rate:
            self.fill()

    def fill(self) -> None:
        end = min(self.plan.messages, self.acknowledged + WINDOW)
        if self.plan.ahead_max:
            end = min(end, self.settled + self.plan.ahead_max)
        self.send(end)

    def tick(self) -> None:
        due_s = time.perf_counter() - (self.started or 0.0)
        if self.sent:
            self.behind_s_max = max(self.behind_s_max, due_s - self.sent / self.plan.rate)
        self.send(min(self.plan.messages, int(due_s * self.plan.rate) + 1))
        if self.sent < self.plan.messages:
            self.loop.call_later(TICK_S, self.tick)

    def send(self, end: int) -> None:
        if end > self.sent:
            self.transport.write(b"".join(self.packets[self.sent : end]))
            self.sent = end


async def main(plan: PublishPlan) -> None:
    packets = build(plan)
    loop = asyncio.get_running_loop()
    _, publisher = await loop.create_connection(
        lambda: LoadPublisher(plan, packets), "127.0.0.1", plan.port
    )
    duplicates = len(repeats(plan.messages, plan.duplicates_percent)) * plan.size
    print(json.dumps({"duplicates": duplicates}), flush=True)
    loop.add_reader(0, publisher.read_settled)
    seconds = await publisher.done
    loop.remove_reader(0)
    result = {"acknowledged": publisher.acknowledged, "seconds": seconds}
    print(json.dumps(result | {"behind_s_max": publisher.behind_s_max}))


if __name__ == "__main__":
    uvloop.run(main(PublishPlan(**json.loads(sys.argv[1]))))
