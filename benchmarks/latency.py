"""Latency at 5,000 messages/s: from publish until visible over HTTP, and until received by SSE.

A probe is an event of a separate device that violates a rule which nothing else violates. Probes are sent
at irregular intervals, whether or not the previous one was seen.
"""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress

from benchmarks.ingest import add_rules
from benchmarks.load.events import connect, publish, yesterday_ms
from benchmarks.load.http import content_length
from benchmarks.load.mqtt import PublishPlan
from benchmarks.rates import percentile
from benchmarks.report import Options, Row
from benchmarks.services import LoadProcess, RoleProcess, database, role, until
from tests.support.brokers.mosquitto import mosquitto

RATE = 5000
PROBES = 300
EVERY_S = (0.05, 0.15)
WARM_UP_S = 3.0
POLL_S = 0.004
LAST_S_MAX = 30.0
DRAIN_S_MAX = 300
DEVICE = "probe"
RULE: dict[str, object] = {"metric": "temp_c", "op": ">", "threshold": 100}


class Probes:
    """When each probe was published, and how long it took to be seen."""

    def __init__(self) -> None:
        self.published_at: list[float] = []
        self.visible_s: dict[int, float] = {}
        self.alerted_s: dict[int, float] = {}

    def seen(self, latencies: dict[int, float], number: int) -> None:
        latencies.setdefault(number, time.perf_counter() - self.published_at[number])

    def complete(self) -> bool:
        return len(self.visible_s) == len(self.alerted_s) == len(self.published_at)


def run(options: Options) -> Iterator[Row]:
    count = options.scaled(PROBES, 10)
    seconds = WARM_UP_S + count * sum(EVERY_S) / 2 * 1.05 + 2  # The load outlasts the probes.
    with mosquitto() as broker, database() as server:
        add_rules(server, RULE)
        plan = PublishPlan(broker.port, int(RATE * seconds), start_ms=yesterday_ms(), rate=RATE)
        with (
            role("ingest", server, broker) as ingestor,
            role("api", server) as api,
            LoadProcess("mqtt", plan) as load,
        ):
            load.start()
            probes = asyncio.run(_probe(count, broker.port, api.port))
            sender = load.result()
            drained_s = _until_drained(ingestor, plan.messages + count)
    for name, latencies in (
        ("visible over HTTP", probes.visible_s),
        ("alert by SSE", probes.alerted_s),
    ):
        values = [seconds * 1000 for seconds in latencies.values()]
        yield {
            "publish until": name,
            "probes": len(values),
            "p50, ms": percentile(values, 50),
            "p99, ms": percentile(values, 99),
            "longest, ms": max(values),
            "messages/s": plan.messages / sender["seconds"],
            "sender behind at most, ms": sender["behind_s_max"] * 1000,
            "settled after the last message, ms": drained_s * 1000,
        }


def _until_drained(ingestor: RoleProcess, events: int) -> float:
    """Seconds until settled. Many mean that the rate was too high and the latencies measure a queue."""
    began = time.perf_counter()
    until(lambda: ingestor.counts().settled >= events, DRAIN_S_MAX, "all settled")
    return time.perf_counter() - began


async def _probe(count: int, mqtt_port: int, http_port: int) -> Probes:
    probes = Probes()
    subscribed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watchers = [
            group.create_task(_listen(http_port, probes, subscribed)),
            group.create_task(_poll(http_port, probes)),
        ]
        await subscribed.wait()
        await asyncio.sleep(WARM_UP_S)
        await _publish_all(count, mqtt_port, probes)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S_MAX):
                while not probes.complete():  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        for task in watchers:
            task.cancel()
    if not probes.complete():
        seen = f"{len(probes.visible_s)} over HTTP, {len(probes.alerted_s)} by SSE"
        raise RuntimeError(f"Of {count} probes, {seen} were seen.")
    return probes


async def _publish_all(count: int, port: int, probes: Probes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(connect("bench-probe"))
    await reader.readexactly(4)
    moments = random.Random(1)
    for number in range(count):
        event = {
            "event_id": str(number),
            "ts": yesterday_ms() + number,  # Growing: the newest event is the last one published.
            "metrics": {"temp_c": 120},
        }
        packet = publish(DEVICE, number % 65_000 + 1, json.dumps(event).encode())
        probes.published_at.append(time.perf_counter())
        writer.write(packet)
        await asyncio.sleep(moments.uniform(*EVERY_S))
    writer.close()


async def _poll(port: int, probes: Probes) -> None:
    """Poll for the newest probe, which proves that all earlier ones are visible."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    newest = -1
    while True:
        writer.write(_get(port, f"/v1/devices/{DEVICE}/events?limit=1"))
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(content_length(head[:-2]))
        if head[9:12] == b"200" and (events := json.loads(body)):
            last = int(events[0]["event_id"])
            for number in range(newest + 1, last + 1):
                probes.seen(probes.visible_s, number)
            newest = last
        await asyncio.sleep(POLL_S)


async def _listen(port: int, probes: Probes, subscribed: asyncio.Event) -> None:
    """Read the alerts of the stream: one frame is one chunk, so its data is one line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_get(port, "/v1/alerts/stream"))
    head = await reader.readuntil(b"\r\n\r\n")
    if head[9:12] != b"200":
        raise RuntimeError(f"The stream was refused: {head.decode()}")
    subscribed.set()
    async for line in reader:
        if line.startswith(b"data: "):
            alert = json.loads(line[6:])
            probes.seen(probes.alerted_s, int(alert["event_id"]))


def _get(port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
