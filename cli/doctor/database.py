"""The database: reachable, new enough, migrated, safe; and what the roles leave in it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from cli.database import database_reason, running_dsn
from cli.doctor.check_result import CheckResult, failed, ok, warning
from runtime.errors import StartError
from runtime.settings import Settings
from schema.access.credentials import any_admin_key
from schema.database import (
    API_SESSION,
    DATABASE_ERRORS,
    Connection,
    connect,
    require_version,
    unsafe_settings,
)
from schema.locks import RELAY
from schema.migrate import is_migrated
from schema.presence import CANARY_STALE_S
from schema.queries import load_queries

ANSWER_S_MAX = 10
CLOCKS_APART_S_MAX = 30  # As /health reports it.
REASONS_SHOWN = 3

queries = load_queries("cli.doctor", constants={"relay_lock": RELAY})


async def check_database(settings: Settings) -> AsyncIterator[CheckResult]:
    """The checks, in an order in which each needs those before it."""
    try:
        dsn = running_dsn(settings)
    except PermissionError:
        remedy = "run this as the user who started voltwire up"
        yield failed("database", f"{settings.data_dir} belongs to another user", remedy)
        return
    except StartError:
        detail = f"DATABASE_URL is not set, and no voltwire up runs on {settings.data_dir}"
        yield failed("database", detail, "start voltwire up, or set DATABASE_URL or DATA_DIR")
        return
    try:
        connection = await connect(
            dsn, "voltwire doctor", API_SESSION, command_timeout_s=ANSWER_S_MAX
        )
        try:
            async for result in _checks(connection, settings):
                yield result
        finally:
            connection.terminate()
    except DATABASE_ERRORS as error:
        remedy = "start PostgreSQL, or correct DATABASE_URL and PGPASSWORD; the roles connect by themselves"
        yield failed("database", f"it cannot be used: {database_reason(error)}", remedy)
    except StartError as error:
        yield failed("database", str(error).rstrip("."), "use a newer PostgreSQL")


async def _checks(connection: Connection, settings: Settings) -> AsyncIterator[CheckResult]:
    await require_version(connection)
    version = connection.get_server_version()
    yield ok("database", f"PostgreSQL {version.major}.{version.minor} answers")
    yield await _clock(connection)
    yield await _durability(connection)
    migrations = await _migrations(connection)
    yield migrations
    if migrations.remedy:
        return
    async for result in _canaries(connection, settings):
        yield result
    yield await _scheduler(connection)
    yield await _rejected(connection)
    if settings.authenticated:
        yield await _admin_key(connection)


async def _clock(connection: Connection) -> CheckResult:
    check = "clocks"
    before = datetime.now(UTC)
    theirs = await connection.fetchval(queries.clock)
    ours = before + (datetime.now(UTC) - before) / 2
    apart = abs(theirs - ours)
    if apart <= timedelta(seconds=CLOCKS_APART_S_MAX):
        return ok(check, f"this machine and the database are {apart.total_seconds():.1f} s apart")
    return failed(
        check,
        f"the clock of this machine and that of the database are {apart.total_seconds():.0f} s apart",
        "keep both correct with NTP, for example with chrony",
    )


async def _durability(connection: Connection) -> CheckResult:
    check = "durability"
    faults = await unsafe_settings(connection)
    if not faults:
        return ok(check, "a commit is on disk before it is confirmed")
    return failed(
        check,
        f"{faults}: a crash of the database may lose confirmed events",
        "turn it on in postgresql.conf and restart PostgreSQL",
    )


async def _migrations(connection: Connection) -> CheckResult:
    check = "migrations"
    try:
        migrated = await is_migrated(connection)
    except StartError as error:
        return failed(check, str(error), "run the version of Voltwire that migrated this database")
    if migrated:
        return ok(check, "the tables are those of this version")
    return failed(check, "the tables are older than this version", "run voltwire migrate")


async def _canaries(connection: Connection, settings: Settings) -> AsyncIterator[CheckResult]:
    """One result for each ingestor that has ever run with this INSTANCE."""
    members = await connection.fetch(queries.members, settings.instance)
    if not members:
        yield failed(
            "canary",
            f"no ingestor has run with INSTANCE={settings.instance} on this database",
            "start voltwire up, or voltwire ingest",
        )
    for row in members:
        check = "canary" if len(members) == 1 else f"canary of member {row['number']}"
        yield _canary(check, row["age_s"])


def _canary(check: str, age_s: float | None) -> CheckResult:
    if age_s is not None and age_s <= CANARY_STALE_S:
        detail = f"our own message came back through broker and database {age_s:.0f} s ago"
        return ok(check, detail)
    since = "never" if age_s is None else f"not for {timedelta(seconds=round(age_s))}"
    return failed(
        check,
        f"our own message has {since} come back: what devices send waits in the broker",
        "start voltwire ingest; if it runs, its log and /health say what it waits for",
    )


async def _scheduler(connection: Connection) -> CheckResult:
    if await connection.fetchval(queries.any_relay):
        return ok("scheduler", "it runs: silence is found, alerts and presence are published")
    return failed(
        "scheduler",
        "none runs: no device is found silent, and nothing is published over MQTT or to channels",
        "start voltwire up, or voltwire schedule",
    )


async def _rejected(connection: Connection) -> CheckResult:
    check = "dead letters"
    try:
        rows = await connection.fetch(queries.rejected_lately)
    except TimeoutError:
        rows = []
    if not rows:
        return ok(check, "none in the last hour")
    reasons = ", ".join(f"{row['reason']} {row['letters']}" for row in rows[:REASONS_SHOWN])
    return warning(
        check,
        f"{sum(row['letters'] for row in rows)} rejected in the last hour ({reasons})",
        "look at them with GET /v1/rejected; docs/http-api.md explains each reason",
    )


async def _admin_key(connection: Connection) -> CheckResult:
    if await any_admin_key(connection):
        return ok("admin key", "there is one")
    return failed(
        "admin key",
        "authentication is on, and there is no admin key",
        "run voltwire key create admin --scope admin",
    )
