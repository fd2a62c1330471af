"""The scheduler role: a table of jobs, and the outbox relay over MQTT."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time

import asyncpg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from runtime.errors import Deferred, NotOwner
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import unless_stopped
from scheduler.channels.delivery import ChannelDelivery, prune_tests
from scheduler.no_data import sweep_no_data
from scheduler.relay import OutboxRelay, prune_outbox
from scheduler.retention import delete_old_dead_letters, retain
from scheduler.rollups import roll
from scheduler.silence import sweep
from schema.access.audit import delete_old_audit
from schema.access.credentials import delete_ended
from schema.database import DATABASE_ERRORS, WRITER_SESSION, Connection, Pool, connect, open_pool
from schema.deleted_devices import delete_events_of_deleted_devices
from schema.migrate import make_partitions, until_migrated

SWEEP_S = 1
ROLL_S = 30
HOUR_S = 3600
CONNECTIONS_MAX = 4
CLOCK_CHECK_S = 1.0
CLOCK_STEP_S_MIN = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """Any number of schedulers may run it at once: the database ensures that its effect happens once."""

    name: str
    every_s: int
    work: Callable[[Connection], Awaitable[object]]


def jobs(settings: Settings, metrics: Metrics) -> list[Job]:
    return [
        Job("silence", SWEEP_S, lambda db: sweep(db, settings.offline_after_seconds)),
        Job("no data", SWEEP_S, sweep_no_data),
        Job(
            "partitions",
            HOUR_S,
            lambda db: make_partitions(
                db, datetime.now(UTC), max_age_days=settings.max_event_age_days
            ),
        ),
        Job("rollups", ROLL_S, roll),
        Job(
            "dead letters",
            HOUR_S,
            lambda db: delete_old_dead_letters(db, settings.rejected_days),
        ),
        Job("retention", HOUR_S, lambda db: _retain(db, settings, metrics)),
        Job("deleted devices", ROLL_S, delete_events_of_deleted_devices),
        Job("outbox", HOUR_S, prune_outbox),
        Job("credentials", HOUR_S, delete_ended),
        Job("audit", HOUR_S, lambda db: _prune_audit(db, settings)),
        Job("channel tests", HOUR_S, prune_tests),
    ]


async def run(settings: Settings, stop: asyncio.Event, health: Health, metrics: Metrics) -> None:
    """Run the jobs and the outbox relay until `stop` is set."""
    if not await unless_stopped(stop, until_migrated(settings.dsn, health)):
        return
    name = f"{settings.instance} scheduler"
    async with await open_pool(
        settings.dsn, name, WRITER_SESSION, size_max=CONNECTIONS_MAX
    ) as pool:
        timer = AsyncIOScheduler(timezone="UTC")
        for job in jobs(settings, metrics):
            timer.add_job(
                _run_job,
                "interval",
                (job, pool, health, metrics),
                seconds=job.every_s,
                next_run_time=datetime.now(UTC),
                id=job.name,
                coalesce=True,  # Jobs read their state from the database: one run catches up.
                max_instances=1,
                misfire_grace_time=None,
            )
        async with asyncio.TaskGroup() as group:
            relaying = group.create_task(OutboxRelay(settings, metrics).run())
            delivering = group.create_task(ChannelDelivery(settings, metrics).run())
            timer.start()
            clock = group.create_task(_follow_clock(timer))
            await stop.wait()
            clock.cancel()
            timer.shutdown(wait=False)
            relaying.cancel()
            delivering.cancel()


async def _follow_clock(timer: AsyncIOScheduler) -> None:
    """APScheduler uses the wall clock: after a step back no job would be due for as long as the step."""
    offset = time() - monotonic()
    while True:
        await asyncio.sleep(CLOCK_CHECK_S)
        stepped = time() - monotonic() - offset
        if abs(stepped) > CLOCK_STEP_S_MIN:
            log.warning("The system clock stepped; every job runs now.", seconds=stepped)
            offset += stepped
            for job in timer.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))


async def _run_job(job: Job, pool: Pool, health: Health, metrics: Metrics) -> None:
    try:
        async with pool.acquire(timeout=5) as connection:
            await job.work(connection)
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
        metrics.job_runs.labels(job.name, "failed").inc()
        log.warning("A job took too long; it will run again.", job=job.name, error=repr(error))
    except DATABASE_ERRORS as error:
        metrics.job_runs.labels(job.name, "failed").inc()
        if health.report("database", ok=False, detail="unavailable, retrying"):
            log.warning("A job failed; it will run again.", job=job.name, error=repr(error))
    except NotOwner as error:
        metrics.job_runs.labels(job.name, "failed").inc()
        if health.report(job.name, ok=False, detail=str(error)):
            log.error("A job cannot run with this login.", job=job.name, reason=str(error))  # noqa: TRY400  # No bug.
    except Exception:
        metrics.job_runs.labels(job.name, "failed").inc()
        log.exception("A job failed unexpectedly; it will run again.", job=job.name)
    else:
        metrics.job_runs.labels(job.name, "ok").inc()
        metrics.job_succeeded_at.labels(job.name).set_to_current_time()
        if job.name in health.checks:  # Only a job that could not run with its login has a check.
            health.report(job.name, ok=True, detail="runs")


async def _retain(connection: Connection, settings: Settings, metrics: Metrics) -> None:
    try:
        async with _owner_connection(connection, settings) as owner:
            await retain(owner, settings.retention_days, datetime.now(UTC), metrics, log.info)
    except Deferred as deferred:
        log.info("Retention continues at its next run.", reason=str(deferred))


async def _prune_audit(connection: Connection, settings: Settings) -> None:
    async with _owner_connection(connection, settings) as owner:
        await delete_old_audit(owner)


@asynccontextmanager
async def _owner_connection(
    connection: Connection, settings: Settings
) -> AsyncIterator[Connection]:
    """One with the login of OWNER_DATABASE_URL, or the given one if that is not set."""
    if settings.owner_database_url is None:
        yield connection
        return
    name = f"{settings.instance} retention"
    owner = await connect(settings.as_owner().dsn, name, WRITER_SESSION)
    try:
        yield owner
    finally:
        owner.terminate()
