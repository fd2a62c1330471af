"""Growth: ingest into an empty database, then into one that holds --stored events, in the same run.

The full one is measured twice: ingest alone, then with queries and the roller at work beside it.

The stored events look as if the product had written them: keys in the order of arrival, one event a minute
per device in monthly partitions, the numbers of the registered devices.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.ingest import Rates, measure
from benchmarks.load.events import DEVICES, METRICS, MINUTE_MS, TAG, yesterday_ms
from benchmarks.load.mqtt import PublishPlan
from benchmarks.query_load import QueryLoad
from benchmarks.rates import percentile
from benchmarks.report import Options, Row, note
from benchmarks.services import DatabaseServer, database, role
from tests.support.brokers.mosquitto import mosquitto

CHUNK = 250_000
CHUNK_S_MAX = 600
TIDY_S_MAX = 3600
IDS = {"growing": "lpad(n::text, 12, '0')", "uuid": "gen_random_uuid()::text"}
NAMES = {"growing": "growing per device", "uuid": "random UUIDs"}
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


# $1: the first instant in milliseconds whose hour and those before it are left to the roller.
CLOSED_BEFORE = """
    update rollup_state
    set closing = date_trunc('hour', to_timestamp($1::bigint / 1000.0)) - $2 * interval '1 hour',
        closed = date_trunc('hour', to_timestamp($1::bigint / 1000.0)) - $2 * interval '1 hour'
"""
HOURS_TO_ROLL = 3
# Kinds of tables: those of one name, or all months.
UPKEEP = """
    select case when relname ~ '^event_2' then 'event (months)' else relname end as kind,
           sum(n_live_tup)::bigint, sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint,
           sum(n_tup_hot_upd)::bigint, sum(n_dead_tup)::bigint, sum(autovacuum_count)::bigint,
           sum(autoanalyze_count)::bigint, round(sum(total_autovacuum_time)::numeric / 1000, 1)::float8
    from pg_stat_user_tables
    where relname ~ '^event_2' or relname in ('event_key', 'rollup', 'rollup_mark', 'presence')
    group by kind order by kind
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
        first = messages + options.stored  # Its time follows the run on the empty database.
        plan = replace(plan, first=first, start_ms=plan.start_ms - options.stored)
        with role("ingest", server, broker) as ingestor:
            full = measure(plan, ingestor, server, stored_before=first)
        yield _row(ids, options.stored, full, full.ratio_to(empty), server)
        server.execute(CLOSED_BEFORE, plan.start_ms + first, HOURS_TO_ROLL)
        with (
            role("ingest", server, broker) as ingestor,
            role("schedule", server, broker),
            role("api", server) as api,
            QueryLoad(api.port) as queries,
        ):
            plan = replace(plan, first=first + messages, start_ms=_live_ms(first + 2 * messages))
            beside = measure(plan, ingestor, server, stored_before=plan.first)
        yield _row(ids, options.stored, beside, beside.ratio_to(empty), server, queries)
        yield from _upkeep(ids, server)


def _live_ms(end: int) -> int:
    """The start that gives the event before number `end` the present time: late events are other work."""
    return int(time.time() * 1000) - end


def _upkeep(ids: str, server: DatabaseServer) -> Iterator[Row]:
    """What updates and autovacuum did, from the statistics of the server."""
    for kind, live, inserted, updated, hot, dead, vacuums, analyzes, vacuum_s in server.rows(
        UPKEEP
    ):
        yield {
            "ids": NAMES[ids],
            "table": kind,
            "rows": live,
            "inserted": inserted,
            "updated": updated,
            "of these HOT": hot,
            "dead now": dead,
            "autovacuums": vacuums,
            "autoanalyzes": analyzes,
            "autovacuum, s": vacuum_s,
        }


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


def _row(
    ids: str,
    stored: int,
    rates: Rates,
    ratio: float,
    server: DatabaseServer,
    queries: QueryLoad | None = None,
) -> Row:
    size = server.value("select pg_database_size(current_database())")
    return {
        "ids": NAMES[ids],
        "stored before": stored,
        "beside it": "queries, roller" if queries else "nothing",
        "events/s, sustained": rates.sustained,
        "events/s, whole": rates.whole,
        "ratio to empty": ratio,
        "database after, GiB": size / 2**30,
        "ingest CPU, µs/event": rates.ingest_us,
        "PostgreSQL CPU, µs/event": rates.server_us,
        "queries": len(queries.ms) if queries else "",
        "p50, ms": percentile(queries.ms, 50) if queries else "",
        "p99, ms": percentile(queries.ms, 99) if queries else "",
    }
