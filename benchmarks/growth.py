"""Growth: ingest into an empty database, then into one that holds --stored events, in the same run.

The stored events look as if the product had written them: keys in the order of arrival, one event a minute
per device in monthly partitions, the numbers of the registered devices.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.ingest import Rates, measure
from benchmarks.load.events import DEVICES, METRICS, MINUTE_MS, TAG, yesterday_ms
from benchmarks.load.mqtt import PublishPlan
from benchmarks.report import Options, Row, note
from benchmarks.services import DatabaseServer, database, role
from tests.support.mosquitto import mosquitto

CHUNK = 250_000
CHUNK_S_MAX = 600
TIDY_S_MAX = 3600
IDS = {"growing": "lpad(n::text, 12, '0')", "uuid": "gen_random_uuid()::text"}
NUMBERS = """
    select array_agg(device_no order by substr(device_id, 2)::int) from device where device_id ~ '^d[0-9]+$'
"""
# $1: the numbers of the devices; $2, $3: the first and the last event of this chunk; $4: the time after the
# last event of all chunks; $5: how many events of a device lie between the first event and that time.
FILL = """
    with new as materialized (
        select ($1::int[])[n % {devices} + 1] as device_no, {event_id} as event_id,
               to_timestamp(($4::bigint - ($5::bigint - n / {devices}) * {minute} + n % {devices})
                            / 1000.0) as ts
        from generate_series($2::bigint, $3::bigint) n
    ), keys as (
        insert into event_key (device_no, event_id) select device_no, event_id from new
    )
    insert into event (device_no, ts, event_id, metrics, tags, seq, received_at)
    select device_no, ts, event_id, '{metrics}'::jsonb, array['{tag}'], null, ts from new
"""


def run(options: Options) -> Iterator[Row]:
    for ids in IDS:
        yield from _variant(ids, options)


def _variant(ids: str, options: Options) -> Iterator[Row]:
    messages = options.scaled(300_000, DEVICES)
    with mosquitto() as broker, database() as server:
        plan = PublishPlan(broker.port, messages, ids=ids, start_ms=yesterday_ms())
        with role("ingest", server, broker) as ingestor:
            server.execute("checkpoint", timeout_s=TIDY_S_MAX)
            empty = measure(plan, ingestor, server)
        yield _row(ids, 0, empty, 1.0, server)
        fill(server, ids, messages, options.stored, plan.start_ms)
        with role("ingest", server, broker) as ingestor:
            first = messages + options.stored  # Its time follows the run on the empty database.
            later = replace(plan, first=first, start_ms=plan.start_ms - options.stored)
            full = measure(later, ingestor, server, stored_before=first)
        yield _row(ids, options.stored, full, full.ratio_to(empty), server)


def fill(server: DatabaseServer, ids: str, first: int, count: int, before_ms: int) -> None:
    """Write events from number `first` on, all older than `before_ms`, and vacuum as autovacuum would."""
    sql = FILL.format(
        devices=DEVICES, minute=MINUTE_MS, metrics=METRICS, tag=TAG, event_id=IDS[ids]
    )
    numbers = server.value(NUMBERS)
    end, began = first + count, time.monotonic()
    for start in range(first, end, CHUNK):
        last = min(start + CHUNK, end) - 1
        server.execute(
            sql, numbers, start, last, before_ms, end // DEVICES + 1, timeout_s=CHUNK_S_MAX
        )
        note(f"{ids}: {last + 1 - first:,} of {count:,} after {time.monotonic() - began:.0f} s")
    server.execute("vacuum (analyze) event_key", timeout_s=TIDY_S_MAX)
    server.execute("vacuum (analyze) event", timeout_s=TIDY_S_MAX)
    server.execute("checkpoint", timeout_s=TIDY_S_MAX)


def _row(ids: str, stored: int, rates: Rates, ratio: float, server: DatabaseServer) -> Row:
    size = server.value("select pg_database_size(current_database())")
    return {
        "ids": {"growing": "growing per device", "uuid": "random UUIDs"}[ids],
        "stored before": stored,
        "events/s, sustained": rates.sustained,
        "events/s, whole": rates.whole,
        "ratio to empty": ratio,
        "database after, GiB": size / 2**30,
        "ingest CPU, µs/event": rates.ingest_us,
        "PostgreSQL CPU, µs/event": rates.server_us,
    }
