"""HTTP: posts over 32 connections to one `voltwire api`, answered after the commit."""

from collections.abc import Iterator

from benchmarks.load.events import yesterday_ms
from benchmarks.load.http import PostPlan
from benchmarks.report import Options, Row
from benchmarks.services import LoadProcess, database, role, role_cpu_seconds, server_cpu_seconds

SINGLE_CONNECTIONS = 32
BATCH_CONNECTIONS = 8  # 4,000 events in flight: two batches of the largest size, one per writer.
BATCH = 500


def run(options: Options) -> Iterator[Row]:
    yield measure("POST /v1/events", options.scaled(100_000, 100), 0, SINGLE_CONNECTIONS)
    yield measure(
        f"POST /v1/events/batch of {BATCH}", options.scaled(2_000, 20), BATCH, BATCH_CONNECTIONS
    )


def measure(name: str, requests: int, size: int, connections: int, workers: int = 1) -> Row:
    events = requests * max(1, size)
    with database() as server, role("api", server, workers=workers) as api:
        plan = PostPlan(api.port, requests, size, connections, yesterday_ms())
        with LoadProcess("http", plan) as load:
            api_s, server_s = role_cpu_seconds(api), server_cpu_seconds()
            load.start()
            result = load.result()
            api_s, server_s = role_cpu_seconds(api) - api_s, server_cpu_seconds() - server_s
        stored = server.value("select count(*) from event_key")
    if result["statuses"] != {"200": requests} or stored != events:
        raise RuntimeError(f"{name}: responses {result['statuses']}, {stored} of {events} stored")
    best = result["sustained"] or result["whole"]
    return {
        "request": name,
        "connections": connections,
        "requests/s, sustained": result["sustained"],
        "requests/s, whole": result["whole"],
        "events/s": best * max(1, size),
        "p50, ms": result["p50_ms"],
        "p99, ms": result["p99_ms"],
        "API CPU, µs/event": api_s / events * 1e6,
        "PostgreSQL CPU, µs/event": server_s / events * 1e6,
    }
