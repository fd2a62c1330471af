"""The scheduler as a role: a table of jobs, and the delivery over MQTT."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any

import asyncpg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from runtime.errors import Deferred
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import unless_stopped
from scheduler.relay import OutboxRelay
from scheduler.retention import drop_rejected, retain
from scheduler.rollups import roll
from scheduler.silence import sweep
from schema.database import DATABASE_ERRORS, WRITER_LIMITS, Connection, open_pool
from schema.migrate import make_partitions, until_migrated
from schema.presence import TIMES
from schema.queries import load_queries

SWEEP_S = 1
ROLL_S = 30
HOUR_S = 3600
CONNECTIONS_MAX = 4
CLOCK_CHECK_S = 1.0
CLOCK_STEP_S_MIN = 2.0

queries = load_queries("scheduler", constants=TIMES)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """Any number of schedulers may run it at once: the database makes it happen once."""

    name: str
    every_s: int
    work: Callable[[Any], Awaitable[Any]]


def jobs(settings: Settings, metrics: Metrics) -> list[Job]:
    return [
        Job("silence", SWEEP_S, lambda db: sweep(db, settings.offline_after_seconds)),
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
            lambda db: drop_rejected(db, settings.rejected_days),
        ),
        Job("retention", HOUR_S, lambda db: _retain(db, settings.retention_days, metrics)),
        Job("told alerts", HOUR_S, _prune_feed),
    ]


async def run(settings: Settings, stop: asyncio.Event, health: Health, metrics: Metrics) -> None:
    """Run the jobs and deliver until `stop` is set."""
    if not await unless_stopped(stop, until_migrated(settings.dsn, health)):
        return
    name = f"{settings.instance} scheduler"
    async with await open_pool(settings.dsn, name, WRITER_LIMITS, size_max=CONNECTIONS_MAX) as pool:
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
            delivering = group.create_task(OutboxRelay(settings, metrics).run())
            timer.start()
            following = group.create_task(_follow_clock(timer))
            await stop.wait()
            following.cancel()
            timer.shutdown(wait=False)
            delivering.cancel()


async def _follow_clock(timer: AsyncIOScheduler) -> None:
    """APScheduler goes by the wall clock: after a step back nothing would be due for as long as it was."""
    offset = time() - monotonic()
    while True:
        await asyncio.sleep(CLOCK_CHECK_S)
        stepped = time() - monotonic() - offset
        if abs(stepped) > CLOCK_STEP_S_MIN:
            log.warning("The clock of this machine stepped: every job runs now.", seconds=stepped)
            offset += stepped
            for job in timer.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))


async def _run_job(job: Job, pool: Any, health: Health, metrics: Metrics) -> None:
    try:
        async with pool.acquire(timeout=5) as connection:
            await job.work(connection)
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
        metrics.job_runs.labels(job.name, "failed").inc()
        log.warning("A job took too long and runs again.", job=job.name, error=repr(error))
    except DATABASE_ERRORS as error:
        metrics.job_runs.labels(job.name, "failed").inc()
        if health.report("database", ok=False, detail="unavailable, trying again"):
            log.warning("A job failed and runs again.", job=job.name, error=repr(error))
    except Exception:
        metrics.job_runs.labels(job.name, "failed").inc()
        log.exception("A job failed unexpectedly and runs again.", job=job.name)
    else:
        metrics.job_runs.labels(job.name, "ok").inc()
        metrics.job_succeeded_at.labels(job.name).set_to_current_time()


async def _retain(connection: Connection, days: int, metrics: Metrics) -> None:
    try:
        await retain(connection, days, datetime.now(UTC), metrics, log.info)
    except Deferred as why:
        log.info("Retention goes on at its next run.", reason=str(why))


async def _prune_feed(connection: Connection) -> None:
    await connection.execute(queries.prune_outbox)
    await connection.execute(queries.prune_feed)
