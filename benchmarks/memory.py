"""Memory: resident memory of our Python processes, without PostgreSQL: idle, under load, in an outage."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.ingest import measure
from benchmarks.load.events import yesterday_ms
from benchmarks.load.mqtt import PublishPlan
from benchmarks.report import Options, Row
from benchmarks.services import LoadProcess, database, python_mib, role, until
from tests.support.brokers.mosquitto import mosquitto
from tests.support.processes.services import Process, free_port, temporary_folder

IDLE_S = 20.0
SAMPLE_S = 0.2
AROUND_S = 5.0  # The load also runs before and after the outage.
OUTAGE_RATE = 1000  # Fills the window of 5,000 in 5 s; Mosquitto queues the rest.
FILLED_S = 10.0  # By then the window is full.
DRAIN_S_MAX = 600


class MemorySamples:
    """The resident memory of a process: before, at most and after."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.peak = self.after = python_mib(pid)

    def take(self) -> None:
        self.after = python_mib(self._pid)
        self.peak = max(self.peak, self.after)


def run(options: Options) -> Iterator[Row]:
    yield _idle(max(2.0, IDLE_S * options.scale))
    yield _under_load(options.scaled(300_000))
    yield _outage(options.outage_s)


@contextmanager
def _watched(pid: int) -> Iterator[MemorySamples]:
    samples, ended = MemorySamples(pid), threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            samples.take()

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
    samples.take()


def _row(name: str, samples: MemorySamples, detail: str) -> Row:
    return {
        "memory of": name,
        "before, MiB": samples.before,
        "at most, MiB": samples.peak,
        "after, MiB": samples.after,
        "how": detail,
    }


def _idle(seconds: float) -> Row:
    port = free_port()
    settings = {"HTTP_PORT": str(port), "MQTT_PORT": str(free_port()), "DATA_DIR": "data"}
    with temporary_folder() as folder, Process(folder, "up", settings=settings) as process:
        process.wait_until_ok(f"http://127.0.0.1:{port}/health")
        with _watched(process.process.pid) as samples:
            time.sleep(seconds)
    return _row("up, idle", samples, f"{seconds:.0f} s, embedded PostgreSQL and broker")


def _under_load(messages: int) -> Row:
    with mosquitto() as broker, database() as server, role("ingest", server, broker) as ingestor:
        plan = PublishPlan(broker.port, messages, start_ms=yesterday_ms())
        with _watched(ingestor.pid) as samples:
            measure(plan, ingestor, server)
    return _row("ingest, under load", samples, f"{messages:,} messages as fast as possible")


def _outage(seconds: float) -> Row:
    """Stop PostgreSQL while messages arrive, and start it again."""
    messages = int(OUTAGE_RATE * (seconds + 2 * AROUND_S))
    with mosquitto() as broker, database() as server, role("ingest", server, broker) as ingestor:
        plan = PublishPlan(broker.port, messages, start_ms=yesterday_ms(), rate=OUTAGE_RATE)
        with LoadProcess("mqtt", plan) as load:
            load.start()
            time.sleep(AROUND_S)
            with _watched(ingestor.pid) as samples:
                server.stop()
                time.sleep(min(seconds, FILLED_S))
                filled = python_mib(ingestor.pid)
                time.sleep(max(0.0, seconds - FILLED_S))
                held, peak = ingestor.counts().in_flight, samples.peak
                server.start()
                began = time.monotonic()
                until(lambda: ingestor.counts().settled >= messages, DRAIN_S_MAX, "all settled")
            drained_s = time.monotonic() - began
            if load.result()["acknowledged"] != messages:
                raise RuntimeError("Not every message got a PUBACK.")
        stored = server.value("select count(*) from event_key")
        if stored != messages:
            raise RuntimeError(f"{stored} of {messages} are stored.")
    detail = (
        f"{seconds:.0f} s without PostgreSQL at {OUTAGE_RATE:,} messages/s: {filled:.1f} MiB after"
        f" {min(seconds, FILLED_S):.0f} s, at most {peak:.1f} MiB until its end, {held:,} messages held;"
        f" all settled {drained_s:.0f} s later"
    )
    return _row("ingest, database outage", samples, detail)
