"""A generated year of telemetry, written by the server in the order of arrival, and rolled up.

Device d0 reports every minute of the year, some others every hour, and the whole fleet every minute of the
last day. The deduplication keys are left out: no query reads them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks import baseline
from benchmarks.report import Row, note
from benchmarks.services import DatabaseServer, server_cpu_seconds
from scheduler.rollups import roll

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CHUNK = timedelta(days=15)
CHUNK_S_MAX = 600
TIDY_S_MAX = 3600

DEVICES = """
    with new as (
        insert into device (device_id, tags)
        select 'd' || n, array['room:' || n / 10, 'sensor:v2'] from generate_series(0, $1::int - 1) n
        order by n returning device_no
    )
    insert into presence (device_no, state) select device_no, 'online' from new
"""
# Minutes since 1970: $1 the first, $2 after the last, $3 the first of the last day. $4: how many devices
# report every hour (one in sixty of them in each minute); $5: how many devices there are.
EVENTS = """
    insert into event (device_no, ts, event_id, metrics, tags, seq, received_at)
    select fleet.numbers[n + 1], ts, 'd' || n || '-' || minute,
           jsonb_build_object(
               'soc_percent', round((60 + 35 * sin(minute / 230.0 + n) + random())::numeric, 1),
               'voltage_v', round((385 + 10 * sin(minute / 230.0 + n) + random())::numeric, 1),
               'current_a', round((-45 + 40 * sin(minute / 97.0 + n) + random())::numeric, 1),
               'temp_c', round((22 + 8 * sin(minute / 229.2) + random())::numeric, 1)),
           array['room:' || n / 10, 'sensor:v2'], null, ts
    from (select array_agg(device_no order by device_no) as numbers from device) fleet
    cross join generate_series($1::bigint, $2::bigint - 1) minute
    cross join lateral (
        select 0 as n
        union all
        select generate_series(1, $5::int - 1) where minute >= $3
        union all
        select generate_series(minute % 60 + case minute % 60 when 0 then 60 else 0 end, $4::int, 60)::int
        where minute < $3
    ) reporting
    cross join lateral (select to_timestamp(minute * 60) as ts) clock
"""
BASELINE_EVENTS = """
    insert into baseline_event (event_id, device_id, ts, metrics, tags)
    select event_id, device_id, ts, metrics, event.tags from event join device using (device_no)
    where ts >= $1 and ts < $2
"""
SIZE = """
    select pg_total_relation_size($1::text::regclass)
        + coalesce((select sum(pg_total_relation_size(inhrelid)) from pg_inherits
                    where inhparent = $1::text::regclass), 0)::bigint
"""


@dataclass(frozen=True)
class Year:
    """`days` before `end`, which is a whole hour; `hourly` devices of the `fleet` report every hour."""

    days: int
    hourly: int
    fleet: int
    end: datetime

    @property
    def start(self) -> datetime:
        return self.end - self.days * DAY

    @property
    def last_day(self) -> datetime:
        return self.end - DAY

    @property
    def events(self) -> int:
        minutes, hours = self.days * 24 * 60, (self.days - 1) * 24
        return minutes + self.hourly * hours + (self.fleet - 1) * 24 * 60


def last_hour() -> datetime:
    """The end of a year: every event is old enough for its hour to be closed."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR


def fill(server: DatabaseServer, year: Year) -> None:
    """Write the events of the year to the product's tables and to the baseline's, without rollups."""
    server.execute(DEVICES, year.fleet)
    server.execute("update rollup_state set closing = $1, closed = $1", year.start)
    server.execute(baseline.TABLE)
    began, start = time.monotonic(), year.start
    while start < year.end:
        stop = min(start + CHUNK, year.end)
        server.execute(
            EVENTS, _minute(start), _minute(stop), _minute(year.last_day), year.hourly, year.fleet,
            timeout_s=CHUNK_S_MAX,
        )  # fmt: skip
        server.execute(BASELINE_EVENTS, start, stop, timeout_s=CHUNK_S_MAX)
        start = stop
        note(f"{(stop - year.start).days} of {year.days} days after {_since(began)}")
    stored = server.value("select count(*) from event")
    if stored != year.events:
        raise RuntimeError(f"{stored:,} events are stored, not {year.events:,}.")


def tidy(server: DatabaseServer) -> None:
    """Vacuum as autovacuum would."""
    for table in ("device", "event", "rollup", "rollup_mark", "baseline_event"):
        server.execute(f"vacuum (analyze) {table}", timeout_s=TIDY_S_MAX)
    server.execute("checkpoint", timeout_s=TIDY_S_MAX)


def roll_up(server: DatabaseServer, year: Year) -> list[Row]:
    """Run the product's roller: the year up to the last day at once, then that day hour by hour."""
    return asyncio.run(_roll_up(server, year))


async def _roll_up(server: DatabaseServer, year: Year) -> list[Row]:
    connection = await asyncpg.connect(server.dsn, command_timeout=TIDY_S_MAX)
    try:
        hours = [year.last_day + n * HOUR for n in range(1, 25)]
        before = await _rolled("all but the last day, at once", connection, [year.last_day])
        last = await _rolled("the last day, an hour at a time", connection, hours)
    finally:
        await connection.close()
    return [before, last]


async def _rolled(
    name: str, connection: "asyncpg.Connection[asyncpg.Record]", closings: Sequence[datetime]
) -> Row:
    events = await connection.fetchval(
        "select count(*) from event, rollup_state where ts >= closed and ts < $1", closings[-1]
    )
    began, cpu_s = time.monotonic(), server_cpu_seconds()
    for closing in closings:
        await roll(connection, closing)
    took_s, cpu_s = time.monotonic() - began, server_cpu_seconds() - cpu_s
    note(f"{name}: {events:,} events rolled up in {took_s:.0f} s")
    return {
        "rolled up": name,
        "events": events,
        "s": took_s,
        "µs/event": took_s / events * 1e6,
        "PostgreSQL CPU, µs/event": cpu_s / events * 1e6,
    }


def sizes(server: DatabaseServer, year: Year) -> Row:
    """The size of the data that the queries run on."""
    return {
        "devices": year.fleet,
        "days": year.days,
        "events": server.value("select count(*) from event"),
        "events, GiB": _gib(server, "event"),
        "rollups": server.value("select count(*) from rollup"),
        "rollups, GiB": _gib(server, "rollup"),
        "the baseline, GiB": _gib(server, "baseline_event"),
    }


def _gib(server: DatabaseServer, table: str) -> float:
    """The size of a table with its indexes and partitions."""
    size: int = server.value(SIZE, table)
    return size / 2**30


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"
