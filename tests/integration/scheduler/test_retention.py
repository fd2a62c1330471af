"""Retention drops old months with their keys, rollups stay, and nothing is ever counted twice."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from runtime.errors import Deferred, NotOwner
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler import retention
from scheduler.retention import old_months, preview, retain
from scheduler.rollups import roll
from scheduler.run import _run_job, jobs
from schema.database import Connection, fetch_row
from schema.event import Reason, Status
from schema.migrate import make_partitions, migrate
from tests.conftest import MAX_EVENT_AGE_DAYS
from tests.integration.conftest import Doors
from tests.support.database.app_role import as_user, database_user
from tests.support.http.http_api import api_on

DAYS = 100
WAIT_S = 0.2

pytestmark = [
    pytest.mark.usefixtures("short_waits"),
    pytest.mark.slow,
]  # Nearly every test has a database of its own.


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention.queries, "set_lock_timeout", "set lock_timeout = '200ms'")
    monkeypatch.setattr(retention, "WAIT_S_MAX", 1.0)
    monkeypatch.setattr(retention, "POLL_S", 0.05)


@pytest.fixture
async def scheduler(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    connection.terminate()


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def floor_of(days: int) -> datetime:
    return ago(days).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def event(days_ago: float, event_id: str | None = None, device_id: str = "a") -> dict[str, Any]:
    return {
        "event_id": event_id or uuid4().hex,
        "device_id": device_id,
        "timestamp": ago(days_ago).isoformat(),
        "metrics": {"x": 1},
    }


def silent(_: str, **__: Any) -> None:
    pass


async def run(connection: Any, days: int = DAYS) -> Metrics:
    metrics = Metrics()
    await retain(connection, days, datetime.now(UTC), metrics, silent)
    return metrics


async def statuses(doors: Doors, events: list[dict[str, Any]]) -> list[Status]:
    return [verdict.status for verdict in await doors.post(events)]


async def summed_up(db: Connection) -> int:
    """How many events the rollups count."""
    return int(await db.fetchval("select coalesce(sum(count), 0) from rollup where metric = 'x'"))


async def keys_and_events(db: Connection) -> tuple[int, int]:
    row = await fetch_row(
        db,
        "select (select count(*) from event_key) as keys, (select count(*) from event) as events",
    )
    return row["keys"], row["events"]


async def partitions(db: Connection) -> list[str]:
    """The tables of months, attached or not."""
    rows = await db.fetch(
        "select relname from pg_class where relkind = 'r' and relname ~ '^event_2'"
    )
    return sorted(row["relname"] for row in rows)


def name_of(first: datetime) -> str:
    return f"event_{first:%Y_%m}"


async def test_old_months_are_dropped_with_their_keys_and_their_rollups_stay(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    old, new = [event(days) for days in (700, 500, 200)], [event(days) for days in (90, 40, 2)]
    await doors.post([*old, *new])
    before = await partitions(db)
    metrics = await run(scheduler)
    assert await keys_and_events(db) == (3, 3)
    assert await summed_up(db) == 6
    left = await partitions(db)
    assert left[0] == name_of(floor_of(DAYS))
    assert metrics.dropped_months._value.get() == len(before) - len(left)
    assert await db.fetchval("select floor from rollup_state") == floor_of(DAYS)
    assert await db.fetchval("select count(*) from partition_drop") == 0


async def test_a_second_run_finds_nothing_to_do(scheduler: Connection) -> None:
    await run(scheduler)
    assert (await run(scheduler)).dropped_months._value.get() == 0


async def test_zero_days_keep_everything(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(700)])
    await run(scheduler, 0)
    assert await keys_and_events(db) == (1, 1)
    assert await preview(scheduler, 0, datetime.now(UTC)) == []


async def test_the_floor_only_grows(scheduler: Connection) -> None:
    await run(scheduler, 50)
    await run(scheduler, 400)
    assert await scheduler.fetchval("select floor from rollup_state") == floor_of(50)


async def test_a_database_clock_far_ahead_drops_nothing_that_ours_would_keep(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(300)])
    await retain(scheduler, DAYS, ago(400), Metrics(), silent)
    assert await keys_and_events(db) == (1, 1)


async def test_dropped_months_are_not_created_again(db: Connection, scheduler: Connection) -> None:
    await run(scheduler)
    left = await partitions(db)
    await make_partitions(db, datetime.now(UTC), max_age_days=MAX_EVENT_AGE_DAYS)
    assert await partitions(db) == left


async def test_a_dropped_event_that_is_sent_again_is_rejected_and_its_neighbours_are_stored(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    """The doors here accept 730 days: the floor of the database overrides their settings."""
    old, kept = event(200), event(20)
    assert await statuses(doors, [old, kept]) == [Status.STORED] * 2
    await run(scheduler)
    verdicts = await doors.post([old, kept, event(10), event(300)])
    assert [verdict.status for verdict in verdicts] == [
        Status.REJECTED, Status.DUPLICATE, Status.STORED, Status.REJECTED,
    ]  # fmt: skip
    assert verdicts[0].reason is verdicts[3].reason is Reason.OLDER_THAN_RETENTION
    assert doors.pipeline.counts.rejected == Counter({Reason.OLDER_THAN_RETENTION: 2})
    assert doors.pipeline.counts.balanced
    dead_letters = await db.fetch("select reason, item from rejected order by item")
    assert [tuple(row) for row in dead_letters] == [
        ("older_than_retention", 0),
        ("older_than_retention", 3),
    ]
    await roll(scheduler)
    assert await summed_up(db) == 3


async def test_the_rejection_states_from_when_on_events_are_kept(
    doors: Doors, scheduler: Connection
) -> None:
    await run(scheduler)
    (verdict,) = await doors.publish("a", event(200))
    assert verdict.detail is not None
    assert f"{floor_of(DAYS):%Y-%m-%dT00:00:00Z}" in verdict.detail


STEPS = ["wait_for_writers", "roll_up", "detach", "delete_keys", "drop"]


class CrashError(Exception):
    pass


def crash(*_: Any) -> None:
    raise CrashError


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_ended_before_any_step_is_finished_by_the_next_one(
    doors: Doors, db: Connection, scheduler: Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    sent = [event(days) for days in (700, 500, 200, 20)]
    await doors.post(sent)
    with monkeypatch.context() as patch:
        patch.setattr(retention, step, crash)
        with pytest.raises(CrashError):
            await run(scheduler)
    again = await statuses(doors, sent)
    assert again == [Status.REJECTED] * 3 + [Status.DUPLICATE]
    await run(scheduler)
    assert await keys_and_events(db) == (1, 1)
    assert (await partitions(db))[0] == name_of(floor_of(DAYS))
    assert await summed_up(db) == 4


@pytest.mark.parametrize("step", ["delete_keys", "drop"])
async def test_a_partly_dropped_month_is_dropped_even_if_retention_is_then_switched_off(
    doors: Doors, db: Connection, scheduler: Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await doors.post([event(days) for days in (700, 500, 20)])
    with monkeypatch.context() as patch:
        patch.setattr(retention, step, crash)
        with pytest.raises(CrashError):
            await run(scheduler)
    _, *whole = await partitions(db)
    await run(scheduler, days=0)
    assert await partitions(db) == whole
    assert await db.fetchval("select count(*) from partition_drop") == 0


class LostConnection:
    """A connection that is lost after the first piece of keys is deleted."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._pieces = connection, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, query: str, *arguments: Any, **limits: Any) -> Any:
        self._pieces += "delete from event_key" in query
        if self._pieces > 1:
            raise CrashError
        return await self._connection.execute(query, *arguments, **limits)


async def test_a_key_that_a_newer_event_uses_again_is_not_deleted_with_the_old_one(
    doors: Doors, db: Connection, scheduler: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a third copy would find no key and be stored."""
    old = [event(200, f"{number:03}") for number in range(400)]
    await doors.post(old)
    monkeypatch.setattr(retention, "PIECE_BLOCKS", 1)
    with pytest.raises(CrashError):
        await run(LostConnection(scheduler))
    left = await db.fetchval("select count(*) from event_key")
    assert 0 < left < 400
    newer = [event(20, old_one["event_id"]) for old_one in old]
    counts = Counter(await statuses(doors, newer))
    assert counts == {Status.STORED: 400 - left, Status.DUPLICATE: left}
    (month,) = [
        month for month in await preview(scheduler, DAYS, datetime.now(UTC)) if month.events
    ]
    assert (month.events, month.keys) == (400, left)
    await run(scheduler)
    assert await keys_and_events(db) == (400 - left, 400 - left)
    assert Counter(await statuses(doors, newer)) == {
        Status.DUPLICATE: 400 - left,
        Status.STORED: left,
    }


async def test_nothing_is_dropped_while_a_writer_may_not_have_seen_the_floor(
    doors: Doors, dsn: str, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(200)])
    number = await db.fetchval("select device_no from device")
    writer = await asyncpg.connect(dsn)
    await writer.execute("begin; select pg_current_xact_id()")
    running = asyncio.create_task(run(scheduler))
    await asyncio.sleep(WAIT_S)
    assert not running.done()
    assert await keys_and_events(db) == (1, 1)
    # Like a writer that read the old floor.
    await writer.execute("insert into event_key values ($1, 'late')", number)
    await writer.execute(
        "insert into event values ($1, $2, 'late', '{\"x\": 1}', '{}', null, now())",
        number,
        ago(200),
    )
    await writer.execute("insert into rollup_mark values ($1, date_trunc('hour', $2::timestamptz))",
                         number, ago(200))  # fmt: skip
    await writer.execute("commit")
    await running
    await writer.close()
    assert await keys_and_events(db) == (0, 0)
    assert await summed_up(db) == 2


async def test_a_writer_that_does_not_end_defers_it(dsn: str, scheduler: Connection) -> None:
    writer = await asyncpg.connect(dsn)
    await writer.execute("begin; select pg_current_xact_id()")
    with pytest.raises(Deferred, match="open for over a minute"):
        await run(scheduler)
    writer.terminate()
    await asyncio.sleep(WAIT_S)
    await run(scheduler)
    assert await old_months(scheduler, floor_of(DAYS)) == []


async def test_a_reader_that_does_not_finish_defers_it_and_blocks_no_one(
    doors: Doors, dsn: str, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(700)])

    reader, watcher = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    await reader.execute("begin")
    assert await reader.fetchval("select count(*) from event") == 1
    running = asyncio.create_task(run(scheduler))
    watching = asyncio.create_task(waits_for(watcher, scheduler.get_server_pid(), running))
    stored = 0
    while not running.done():
        assert await statuses(doors, [event(20)]) == [Status.STORED]
        assert await db.fetchval("select count(*) from event where ts > now() - interval '50 d'")
        stored += 1
    with pytest.raises(Deferred, match="does not finish"):
        await running
    waits = await watching
    assert sum(waits) < len(waits) / 2, "a post or a query waited"
    assert (
        await reader.fetchval("select count(*) from event where ts < now() - interval '90 d'") == 1
    )
    with pytest.raises(Deferred, match="does not finish"):
        await run(scheduler)  # It finds the month half detached.
    await reader.execute("rollback")
    await run(scheduler)
    await reader.close()
    await watcher.close()
    assert await keys_and_events(db) == (stored, stored)
    assert (await partitions(db))[0] == name_of(floor_of(DAYS))


async def waits_for(db: Connection, pid: int, running: "asyncio.Task[Any]") -> list[bool]:
    """Whether another session waited for this one, at each of many instants meanwhile."""
    blocked = "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))"
    found = []
    while not running.done():
        found.append(await db.fetchval(blocked, pid))
        await asyncio.sleep(0.01)
    return found


async def test_of_two_schedulers_at_once_one_works(
    doors: Doors, dsn: str, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(days) for days in (700, 500, 200, 20)])
    other = await asyncpg.connect(dsn)
    results = await asyncio.gather(run(scheduler), run(other), return_exceptions=True)
    await other.close()
    assert sum(isinstance(result, Deferred) for result in results) == 1
    assert await keys_and_events(db) == (1, 1)
    assert await summed_up(db) == 4


async def test_it_is_a_job_of_the_scheduler_that_may_be_deferred(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(200)])
    (job,) = [
        job for job in jobs(Settings(retention_days=DAYS), Metrics()) if job.name == "retention"
    ]
    await db.execute("select pg_advisory_lock(4245)")  # As scheduler/retention.py does.
    await job.work(scheduler)
    assert await keys_and_events(db) == (1, 1)
    await db.execute("select pg_advisory_unlock(4245)")
    await job.work(scheduler)
    assert await keys_and_events(db) == (0, 0)


async def test_the_rollups_come_first_also_while_another_roller_is_at_work(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(200)])
    await db.execute("select pg_advisory_lock(4244)")  # As scheduler/rollups.py does.
    with pytest.raises(Deferred, match="not complete"):
        await run(scheduler)
    assert await keys_and_events(db) == (1, 1)
    running = asyncio.create_task(run(scheduler))
    await asyncio.sleep(WAIT_S)
    await db.execute("select pg_advisory_unlock(4244)")
    await running
    assert (await keys_and_events(db), await summed_up(db)) == ((0, 0), 1)


async def test_a_month_that_an_operator_has_detached_is_not_ours(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(200)])
    archive = name_of(ago(200))
    await db.execute(f"alter table event detach partition {archive}")
    await run(scheduler)
    assert (
        await db.fetchval(f"select count(*) from {archive}") == 1
    )  # The name is ours, the table is not.


async def test_the_preview_shows_what_a_run_then_drops(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    await doors.post([event(200), event(200.01), event(600), event(20)])
    found = await preview(scheduler, DAYS, datetime.now(UTC))
    shown = {plan.month.partition: plan.events for plan in found if plan.events}
    assert shown == dict(Counter(name_of(ago(days)) for days in (200, 200.01, 600)))
    assert all(plan.events == plan.keys for plan in found)
    before = set(await partitions(db))
    await run(scheduler)
    assert before - set(await partitions(db)) == {plan.month.partition for plan in found}


async def test_an_answer_from_rollups_is_the_same_before_while_and_after_its_events_go(
    doors: Doors, dsn: str, scheduler: Connection
) -> None:
    dice = random.Random(7)
    for _ in range(3):
        await doors.post([event(dice.uniform(5, 720), device_id=f"d{n % 9}") for n in range(500)])
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    parameters = {"metric": "x", "interval": "30d"}
    parameters |= {
        "from_time": (hour - timedelta(days=725)).isoformat(),
        "to_time": hour.isoformat(),
    }
    responses: Counter[int] = Counter()
    months = asyncio.create_task(every_month(scheduler))
    async with api_on(dsn) as client:
        while not months.done():
            response = await client.get("/v1/metrics/aggregate", params=parameters)
            responses[sum(bucket["count"] for bucket in response.json())] += 1
    await months
    assert set(responses) == {1500}
    assert responses[1500] > 10


async def every_month(connection: Connection) -> None:
    for days in range(720, DAYS, -31):
        await run_on(connection, days)


async def run_on(connection: Connection, days: int) -> None:
    """Retry while it is deferred, as the scheduler does."""
    while True:
        try:
            await run(connection, days)
        except Deferred:
            continue
        return


async def test_with_writers_near_a_moving_floor_every_event_counts_once(
    doors: Doors, db: Connection, scheduler: Connection
) -> None:
    """Each event is sent at least three times while the floor moves a month at a time."""
    dice = random.Random(5)
    days, done = 720, asyncio.Event()
    verdicts: dict[str, Counter[Status]] = {}

    async def send(device_id: str) -> None:
        waiting: list[dict[str, Any]] = []
        while not done.is_set():
            near = days - 31 + dice.random() * 62
            waiting += [event(min(near, 725), device_id=device_id) for _ in range(5)] * 3
            batch = [waiting.pop(dice.randrange(len(waiting))) for _ in range(8)]
            for sent, verdict in zip(batch, await doors.post(batch), strict=True):
                verdicts.setdefault(sent["event_id"], Counter())[verdict.status] += 1

    async def retain_on() -> None:
        nonlocal days
        while days > DAYS:
            days -= 31
            await run_on(scheduler, days)
        done.set()

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(send(f"d{number}"))
        group.create_task(retain_on())
    await roll(scheduler)
    assert max(counts[Status.STORED] for counts in verdicts.values()) == 1
    stored = sum(counts[Status.STORED] for counts in verdicts.values())
    assert sum(counts[Status.REJECTED] for counts in verdicts.values()) > 0
    assert doors.pipeline.counts.balanced
    assert await summed_up(db) == stored
    keys, events = await keys_and_events(db)
    assert keys == events


# -- A login that does not own the tables. --


@pytest.fixture(scope="module")
def role(postgres: str) -> Iterator[str]:
    with database_user(postgres) as name:
        yield name


@pytest.fixture
async def app(dsn: str, role: str) -> AsyncIterator[Connection]:
    """A connection with the login of the roles."""
    await migrate(dsn, max_age_days=MAX_EVENT_AGE_DAYS, app_role=role)
    connection = await asyncpg.connect(as_user(dsn, role))
    yield connection
    connection.terminate()


async def test_without_the_right_to_drop_the_floor_does_not_move(
    app: Connection, db: Connection, doors: Doors
) -> None:
    await doors.post([event(200, "old")])
    before = await db.fetchval("select floor from rollup_state")
    with pytest.raises(NotOwner, match="Set OWNER_DATABASE_URL to the login of their owner"):
        await run(app)
    assert await db.fetchval("select floor from rollup_state") == before
    assert await db.fetchval("select count(*) from event") == 1
    await run(app, days=0)  # Everything is kept, so no right is missing.


async def test_one_partition_of_another_owner_is_enough_to_stop_before_the_floor_moves(
    db: Connection, role: str, scheduler: Connection
) -> None:
    month = f"event_{ago(150):%Y_%m}"
    await db.execute(f'create role "{role}_owner" login; alter table event owner to "{role}_owner"')
    await db.execute(f'grant all on all tables in schema public to "{role}_owner"')
    await scheduler.execute(f'set role "{role}_owner"')
    with pytest.raises(NotOwner):
        await run(scheduler)
    assert await db.fetchval(f"select count(*) from {month}") == 0
    await scheduler.execute("reset role")
    await db.execute(f'drop owned by "{role}_owner" cascade; drop role "{role}_owner"')


@pytest.mark.usefixtures("app")
async def test_the_scheduler_reports_once_that_retention_needs_the_owner_and_works_with_its_login(
    dsn: str, db: Connection, role: str, doors: Doors, capsys: pytest.CaptureFixture[str]
) -> None:
    await doors.post([event(200, "old")])
    login = SecretStr(as_user(dsn, role))
    settings = Settings(database_url=login, retention_days=DAYS)
    health, metrics = Health(()), Metrics()
    async with asyncpg.create_pool(login.get_secret_value(), min_size=0) as pool:

        async def hourly(settings: Settings) -> None:
            (job,) = [job for job in jobs(settings, metrics) if job.name == "retention"]
            await _run_job(job, pool, health, metrics)

        await hourly(settings)
        await hourly(settings)
        ok, detail = health.checks["retention"]
        assert not ok
        assert "Set OWNER_DATABASE_URL" in detail
        assert capsys.readouterr().out.count("cannot run with this login") == 1
        assert metrics.job_runs.labels("retention", "failed")._value.get() == 2
        assert await db.fetchval("select count(*) from event") == 1

        await hourly(settings.model_copy(update={"owner_database_url": SecretStr(dsn)}))
    assert health.checks["retention"] == (True, "runs")
    assert await db.fetchval("select count(*) from event") == 0
