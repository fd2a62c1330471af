"""One role with 1, 2 and 3 workers: events per second, and the CPU time per event."""

from collections.abc import Iterator

from benchmarks import posts
from benchmarks.ingest import measure
from benchmarks.load.events import yesterday_ms
from benchmarks.load.mqtt import PublishPlan
from benchmarks.report import Options, Row
from benchmarks.services import database, role
from tests.support.brokers.mosquitto import mosquitto

NUMBERS = (1, 2, 3)
CONNECTIONS = 32


def run(options: Options) -> Iterator[Row]:
    for size, messages in ((1, options.scaled(500_000)), (20, options.scaled(60_000))):
        for workers in NUMBERS:
            yield _ingest(messages, size, workers)
    for workers in NUMBERS:
        yield _posts(options.scaled(100_000, 100), workers)


def _ingest(messages: int, size: int, workers: int) -> Row:
    with mosquitto() as broker, database() as server:
        plan = PublishPlan(broker.port, messages, size, 1.0, start_ms=yesterday_ms())
        with role("ingest", server, broker, workers=workers) as ingestor:
            rates = measure(plan, ingestor, server)
    return {
        "role": "ingest, one event" if size == 1 else f"ingest, arrays of {size}",
        "workers": workers,
        "events/s, sustained": rates.sustained,
        "events/s, whole": rates.whole,
        "CPU, µs/event": rates.ingest_us,
        "PostgreSQL CPU, µs/event": rates.server_us,
    }


def _posts(requests: int, workers: int) -> Row:
    row = posts.measure("POST /v1/events", requests, 0, CONNECTIONS, workers)
    return {
        "role": f"api, single posts over {CONNECTIONS} connections",
        "workers": workers,
        "events/s, sustained": row["requests/s, sustained"],
        "events/s, whole": row["requests/s, whole"],
        "CPU, µs/event": row["API CPU, µs/event"],
        "PostgreSQL CPU, µs/event": row["PostgreSQL CPU, µs/event"],
    }
