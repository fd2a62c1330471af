"""An HTTP client in a separate process: kept connections, requests built before the clock starts.

python -m benchmarks.load.http PLAN, where PLAN is the JSON of `PostPlan`. It prints one JSON line when it is
ready; the first line on its standard input starts the clock; at its end it prints its measurements.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from benchmarks.load.events import DEVICES, Events
from benchmarks.rates import percentile, sustained, whole


@dataclass(frozen=True)
class PostPlan:
    """`size` 0 posts single events, any other size batches of that many."""

    port: int
    requests: int
    size: int
    connections: int
    start_ms: int

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def build(plan: PostPlan) -> list[bytes]:
    events = Events(start_ms=plan.start_ms)
    path = "/v1/events/batch" if plan.size else "/v1/events"
    requests = []
    for n in range(plan.requests):
        numbers = range(n * plan.size, (n + 1) * plan.size) if plan.size else (n,)
        texts = [events.event(number, f"d{number % DEVICES}") for number in numbers]
        body = f"[{','.join(texts)}]" if plan.size else texts[0]
        requests.append(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    return requests


class Requests:
    """The requests still to send, and the responses."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.waiting = deque(requests)
        self.left = len(requests)
        self.statuses: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.answered_at: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, status: str, sent_at: float) -> None:
        now = time.perf_counter()
        self.statuses[status] += 1
        self.latencies_s.append(now - sent_at)
        self.answered_at.append(now)
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Client(asyncio.Protocol):
    """One connection: it sends the next request after the complete response to the last one."""

    def __init__(self, work: Requests) -> None:
        self.work = work
        self.response = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.work.done.done():
            fault = error or ConnectionError("The API closed a connection.")
            self.work.done.set_exception(fault)

    def data_received(self, data: bytes) -> None:
        self.response += data
        head, end, body = self.response.partition(b"\r\n\r\n")
        if end and len(body) >= content_length(head):
            self.work.answered(head[9:12].decode(), self.sent_at)
            self.response = b""
            self.send()

    def send(self) -> None:
        if self.work.waiting:
            self.sent_at = time.perf_counter()
            self.transport.write(self.work.waiting.popleft())


def content_length(head: bytes) -> int:
    """The Content-Length, which every response to a post has."""
    _, name, rest = head.lower().partition(b"\r\ncontent-length:")
    if not name:
        raise RuntimeError(f"A response without Content-Length: {head.decode()}")
    return int(rest.partition(b"\r\n")[0])


async def main(plan: PostPlan) -> None:
    work = Requests(build(plan))
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(min(plan.connections, plan.requests)):
        _, client = await loop.create_connection(lambda: Client(work), "127.0.0.1", plan.port)
        clients.append(client)
    print("{}", flush=True)
    start = asyncio.Event()
    loop.add_reader(0, start.set)
    await start.wait()
    loop.remove_reader(0)
    started = time.perf_counter()
    for client in clients:
        client.send()
    await work.done
    samples = [(0.0, 0), *((at - started, n) for n, at in enumerate(work.answered_at, 1))]
    result = {
        "statuses": work.statuses,
        "whole": whole(samples),
        "sustained": sustained(samples),
        "p50_ms": percentile(work.latencies_s, 50) * 1000,
        "p99_ms": percentile(work.latencies_s, 99) * 1000,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(PostPlan(**json.loads(sys.argv[1]))))
