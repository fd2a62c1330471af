"""Writers, a roller and readers at once: in every snapshot the trusted rollups agree with the events.

The same harness also runs with one step of the protocol left out at a time and must find the error: this
proves that it can. PROTOCOL_SECONDS and PROTOCOL_SEEDS make it longer.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from ingestor.store.copy_format import COLUMNS
from ingestor.store.presence_writes import SEPARATOR
from ingestor.store.transaction import queries
from scheduler import rollups
from scheduler.rollups import roll
from schema.database import API_SESSION, WRITER_SESSION, Connection, connect, fetch_row
from schema.locks import LANES
from tests.integration.conftest import Doors, make_pipeline

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("PROTOCOL_SECONDS", "3"))
SEEDS = int(os.environ.get("PROTOCOL_SEEDS", "1"))
FOUND_WITHIN_S = 240

PIPELINES, SLOW_WRITERS, READERS = 2, 4, 2
DEVICES = [f"d{n}" for n in range(1, 9)]
HOUR = timedelta(hours=1)
LATE_HOURS_MAX = 6
PAUSE_S_MAX = 0.2  # Of the slow writers, between two steps.
DAYS_BACK = 600  # Where the clock of a run starts; it advances some 30 hours per second.

# In one statement: the hours since $1 for which readers would get wrong results.
WRONG = """
with state as (select closed from rollup_state),
raw as (
    select device_no, date_trunc('hour', ts, 'UTC') as hour, ts, event_id,
           (metrics -> 'v')::numeric as v
    from event where ts >= $1
),
truth as (
    select device_no, hour, count(*)::int as count, sum(v) as sum, sum(v * v) as squares, min(v) as min,
           max(v) as max,
           (array_agg((v, ts, event_id)::text order by ts, event_id))[1] as first,
           (array_agg((v, ts, event_id)::text order by ts desc, event_id desc))[1] as last
    from raw group by 1, 2
),
trusted as (
    select device_no, hour, count, sum, squares, min, max, (first, first_ts, first_id)::text as first,
           (last, last_ts, last_id)::text as last
    from rollup where metric = 'v' and hour >= $1
)
select count(*) from truth full join trusted using (device_no, hour)
where hour < (select closed from state)
  and not exists (select from rollup_mark mark
                  where mark.device_no = coalesce(truth.device_no, trusted.device_no) and mark.hour = hour)
  and truth is distinct from trusted
"""


@dataclass
class Run:
    """One run. The roller moves its clock; writers write around it, and late."""

    dsn: str
    seed: int
    early: bool = False  # Writers read `closing` before they have a number.
    clock: datetime = field(init=False)
    began: datetime = field(init=False)
    found: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False
    checks: int = 0
    wrong: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"posts": 0, "slow": 0, "rolls": 0})

    def __post_init__(self) -> None:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self.began = now - timedelta(days=DAYS_BACK)
        self.clock = self.began + LATE_HOURS_MAX * HOUR

    async def __call__(self, seconds: float) -> None:
        """Run for this long and until every task has done its share, or until a wrong result is found."""
        async with connection(self.dsn) as db:
            await db.execute("insert into device (device_id) select unnest($1::text[])", DEVICES)
            await db.execute(
                "insert into presence (device_no, reason) select device_no, '' from device"
            )
            await db.execute("update rollup_state set closing = $1, closed = $1", self.began)
        async with asyncio.TaskGroup() as group:
            for n in range(PIPELINES):
                group.create_task(self._post(n))
            for n in range(SLOW_WRITERS):
                group.create_task(self._write_slowly(n))
            for _ in range(READERS):
                group.create_task(self._read())
            group.create_task(self._roll())
            with suppress(TimeoutError):
                await asyncio.wait_for(self.found.wait(), seconds)
            while not self.found.is_set() and self._fewest() < 2 * seconds:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            self.stopped = True
        async with connection(self.dsn) as db:
            await roll(db, self.clock + HOUR)
            self.wrong += await db.fetchval(WRONG, self.began)
            assert await db.fetchval("select count(*) from rollup_mark") == 0

    def _fewest(self) -> int:
        return min(self.checks, *self.counts.values())

    def _random(self, *task: object) -> Random:
        return Random(repr((self.seed, *task)))

    def _instant(self, random: Random) -> datetime:
        back = 0 if random.random() < 0.7 else random.randint(0, LATE_HOURS_MAX)
        return self.clock - back * HOUR + timedelta(seconds=random.randrange(3600))

    async def _post(self, n: int) -> None:
        """Post through a separate pipeline, as a separate process would."""
        random = self._random("post", n)
        pipeline, health = make_pipeline(self.dsn, f"pipeline {n}")
        doors, stop = Doors(pipeline, health), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(pipeline.run(stop))
            while not self.stopped:
                events = [
                    {
                        "device_id": random.choice(DEVICES),
                        "event_id": f"p{n}-{self.counts['posts']}-{place}",
                        "timestamp": self._instant(random).isoformat(),
                        "metrics": {"v": random.randrange(1000) / 10},
                    }
                    for place in range(random.randint(1, 15))
                ]
                await doors.post(events)
                self.counts["posts"] += 1
                await asyncio.sleep(random.random() * 0.02)
            stop.set()

    async def _write_slowly(self, n: int) -> None:
        """Take the steps of ingestor/store/transaction.py with pauses in between; some transactions fail."""
        random = self._random("slow", n)

        async def pause(part: float = 0.3) -> None:
            if random.random() < part:
                await asyncio.sleep(random.random() ** 2 * PAUSE_S_MAX)

        async with connection(self.dsn) as db:
            while not self.stopped:
                numbers = sorted(random.sample(range(1, len(DEVICES) + 1), random.randint(1, 2)))
                self.counts["slow"] += 1
                name = f"s{n}-{self.counts['slow']}"
                at = [self._instant(random) for _ in numbers]
                early = await self._closing_early(db)
                await pause()
                lanes = ",".join(str(number % LANES) for number in numbers)
                await db.execute(
                    str(queries.begin_in_lanes).format(lanes=lanes).removeprefix(early[0])
                )
                await pause()
                keys = SEPARATOR.join(map(str, numbers)), SEPARATOR.join([name] * len(numbers))
                facts = await fetch_row(db, queries.insert_keys, *keys, len(numbers), "", "", "")
                closing = early[1] or facts["closing"]
                await pause()
                rows: list[tuple[Any, ...]] = [
                    (number, ts, name, f'{{"v": {random.randrange(1000)}}}', [], None, ts)
                    for number, ts in zip(numbers, at, strict=True)
                ]
                await db.copy_records_to_table("event", records=rows, columns=COLUMNS)
                await pause()
                late = [
                    (number, int(ts.timestamp()) // 3600 * 3600)
                    for number, ts in zip(numbers, at, strict=True)
                    if ts < closing
                ]
                if late:
                    await db.execute(queries.mark_hours, *map(list, zip(*late, strict=True)))
                await pause(0.6)
                await db.execute("commit" if random.random() < 0.95 else "rollback")

    async def _closing_early(self, db: Connection) -> tuple[str, datetime | None]:
        """What `begin_in_lanes` must not send again, and the closing hour, if it is read too early."""
        if not self.early:
            return "", None
        await db.execute("begin")
        return "begin;", await db.fetchval("select closing from rollup_state")

    async def _read(self) -> None:
        async with connection(self.dsn) as db:
            while not self.stopped:
                if await db.fetchval(WRONG, self.clock - 3 * LATE_HOURS_MAX * HOUR):
                    self.wrong += 1
                    self.found.set()
                self.checks += 1
                await asyncio.sleep(0.005)

    async def _roll(self) -> None:
        random = self._random("roll")
        async with connection(self.dsn) as db:
            slow: Any = SlowConnection(db, random)
            while not self.stopped:
                await asyncio.sleep(0.01)
                self.clock += random.choice((0, 0, 1, 2)) * HOUR
                await roll(slow, self.clock - HOUR)
                self.counts["rolls"] += 1


class SlowConnection:
    """A connection that sometimes waits before it sends, so that other things happen in between."""

    def __init__(self, db: Connection, random: Random) -> None:
        self._db, self._random = db, random

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._db, name)
        if name not in {"execute", "fetch", "fetchrow", "fetchval"}:
            return found

        async def later(*arguments: Any, **options: Any) -> Any:
            if self._random.random() < 0.3:
                await asyncio.sleep(self._random.random() * 0.02)
            return await found(*arguments, **options)

        return later


@asynccontextmanager
async def connection(dsn: str) -> AsyncIterator[Connection]:
    db = await connect(dsn, "protocol", WRITER_SESSION)
    await db.execute(f"set plan_cache_mode = {API_SESSION['plan_cache_mode']}")
    try:
        yield db
    finally:
        db.terminate()


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_what_readers_trust_is_right_at_every_moment(seed: int, dsn: str) -> None:
    run = Run(dsn, seed)
    await run(SECONDS)
    print(f"seed {seed}: {run.wrong} wrong of {run.checks} checks; {run.counts}")  # noqa: T201
    assert run.wrong == 0


async def no_wait(_: Any) -> None:
    """Close an hour although running transactions have not seen that it is closing."""


async def roll_and_then_unmark(
    db: Connection, devices: Sequence[int], starts: Sequence[datetime], span: timedelta
) -> None:
    """Roll up first and delete the marks afterwards: some were added in between."""
    await db.execute(
        rollups.queries.roll_hours, devices, starts, span, min(starts), max(starts) + span
    )
    await db.execute(UNMARK, devices, starts, span)


UNMARK = """
delete from rollup_mark using unnest($1::int[], $2::timestamptz[]) as span (device, start)
where device_no = device and hour >= start and hour < start + $3::interval
"""
MARK_ONCE = """
insert into rollup_mark (device_no, hour)
select device_no, to_timestamp(hour) from unnest($1::int[], $2::bigint[]) as late (device_no, hour)
order by 1, 2 on conflict do nothing
"""
WITHOUT = ["waiting for writers", "a number before closing is read", "a mark each", "one statement"]


@pytest.mark.parametrize("left_out", WITHOUT)
async def test_without_any_step_of_the_protocol_readers_get_wrong_answers(
    left_out: str, dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(dsn, 0)
    match left_out:
        case "waiting for writers":
            monkeypatch.setattr(rollups, "until_writers_ended", no_wait)
        case "a number before closing is read":
            run.early = True
        case "a mark each":
            await db.execute("create unique index on rollup_mark (device_no, hour)")
            monkeypatch.setattr(queries, "mark_hours", MARK_ONCE)
        case "one statement":
            monkeypatch.setattr(rollups, "roll_hours", roll_and_then_unmark)
    await run(FOUND_WITHIN_S)
    assert run.wrong > 0


async def test_an_hour_that_takes_longer_than_a_writer_may_is_rolled_up(
    dsn: str, db: Connection
) -> None:
    await db.execute(
        "insert into device (device_id) select 'd' || n from generate_series(1, 10) n;"
        "insert into event select device_no, '2026-01-01Z'::timestamptz + n * interval '1 s', n::text,"
        " jsonb_build_object('v', n), '{}', null, now() from device, generate_series(0, 3599) n;"
        "update rollup_state set closed = '2026-01-01Z', closing = '2026-01-01T01:00Z';"
        "create function dawdle() returns trigger language plpgsql as 'begin"
        "  if new.device_no = (select min(device_no) from device) then perform pg_sleep(1.2); end if;"
        "  return new; end';"
        "create trigger dawdle before insert on rollup for each row execute function dawdle()"
    )
    limits = WRITER_SESSION | {"statement_timeout": "1s"}
    roller = await connect(dsn, "roller", limits)
    try:
        await roll(roller, datetime(2026, 1, 1, 1, tzinfo=UTC))
    finally:
        roller.terminate()
    assert await db.fetchval("select sum(count) from rollup") == 10 * HOUR.seconds
    assert await db.fetchval("select closed = closing from rollup_state")
