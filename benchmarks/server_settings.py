"""PostgreSQL's settings: the same ingest with ours, with PostgreSQL's defaults, and with one of ours changed.

Each server first gets --stored events with random ids, and the run starts right after a checkpoint. Settings
matter most then, because the first change of every page writes the whole page to the WAL.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from benchmarks.growth import fill
from benchmarks.ingest import measure
from benchmarks.load.events import DEVICES, yesterday_ms
from benchmarks.load.mqtt import PublishPlan
from benchmarks.report import Options, Row
from benchmarks.services import database, role
from tests.support.brokers.mosquitto import mosquitto

STOCK = {
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "5min",
    "autovacuum_naptime": "1min",
}
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "as shipped": {},
    "PostgreSQL's defaults": STOCK,
    "shared_buffers 128MB": {"shared_buffers": "128MB"},
    "shared_buffers 1GB": {"shared_buffers": "1GB"},
    "max_wal_size 1GB": {"max_wal_size": "1GB"},
    "wal_compression pglz": {"wal_compression": "pglz"},
    "wal_buffers 64MB": {"wal_buffers": "64MB"},
    "autovacuum off (a bound)": {"autovacuum": "off"},
    "synchronous_commit off (a bound)": {"synchronous_commit": "off"},
    "as shipped, again": {},
}


def run(options: Options) -> Iterator[Row]:
    for name, settings in VARIANTS.items():
        yield _row(name, settings, options)


def _row(name: str, settings: Mapping[str, str], options: Options) -> Row:
    messages = options.scaled(300_000, DEVICES)
    with mosquitto() as broker, database(settings) as server:
        plan = PublishPlan(broker.port, DEVICES, ids="uuid", start_ms=yesterday_ms())
        with role("ingest", server, broker) as ingestor:
            measure(plan, ingestor, server)  # Registers the devices.
            fill(server, "uuid", DEVICES, options.stored, plan.start_ms)
            stored = DEVICES + options.stored
            before = server.value("select pg_current_wal_lsn()::text")
            pages = server.value("select wal_fpi from pg_stat_wal")
            rates = measure(
                replace(plan, messages=messages, first=stored),
                ingestor,
                server,
                stored_before=stored,
            )
            wal = server.value(
                "select pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::float8", before
            )
            pages = server.value("select wal_fpi from pg_stat_wal") - pages
    return {
        "settings": name,
        "events/s": rates.best_known,
        "PostgreSQL CPU, µs/event": rates.server_us,
        "WAL, bytes/event": wal / messages,
        "full pages/event": float(pages) / messages,
    }
