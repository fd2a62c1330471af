"""Forward-only migrations: plain SQL files, applied in order, each in its own transaction.

1. Take a lock, so that concurrent starts wait for the first one.
2. Compare the recorded migrations with the files: a changed file or a newer database is an error.
3. Apply the missing ones and record each with its checksum.
4. Create the event partitions of the whole accepted window.
5. Grant the user of the roles what it needs, if one is named.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import asyncpg
import structlog

from runtime.errors import StartError
from runtime.health import Health
from schema.app_role import grant_app_role
from schema.database import DATABASE_ERRORS, Connection, connect, report_durability, require_version
from schema.locks import MIGRATION

PARTITIONS_AHEAD = timedelta(days=62)
CHECK_S = 0.5
PARTITION_STEP = timedelta(days=365)  # Bounds the locks of one transaction.

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    found = [
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in (files("schema") / "migrations").iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.version)


async def migrate(dsn: str, *, max_age_days: int, app_role: str | None = None) -> list[str]:
    """Apply the missing migrations, grant `app_role` its rights, and return the names of the migrations.

    Raises StartError if the server is older than PostgreSQL 18, the schema is newer than the code, a file has
    changed since it was applied, or the login may not change the tables.
    """
    connection = await connect(dsn, "voltwire migrate", command_timeout_s=600)
    try:
        await require_version(connection)
        await connection.execute("select pg_advisory_lock($1)", MIGRATION)
        pending = await _apply_missing(connection)
        await make_partitions(connection, datetime.now(UTC), max_age_days=max_age_days)
        if app_role is not None:
            await grant_app_role(connection, app_role)
        return [migration.name for migration in pending]
    except asyncpg.InsufficientPrivilegeError as error:
        reason = str(error).splitlines()[0]
        raise StartError(
            f"This login may not migrate the database ({reason}): set OWNER_DATABASE_URL to the login of"
            " the owner of the tables."
        ) from error
    finally:
        await connection.close(timeout=5)


async def is_migrated(connection: Connection) -> bool:
    """Whether the schema is as new as the code. Raises StartError if it is newer."""
    if not await _has_record(connection):
        return False
    return not await _pending(connection, known_migrations())


async def until_migrated(dsn: str, health: Health) -> None:
    """Wait until `voltwire migrate` has run, and report it. Raises StartError if waiting cannot help."""
    while True:
        try:
            connection = await connect(dsn, "voltwire version check")
            try:
                await require_version(connection)
                if await is_migrated(connection):
                    await report_durability(connection, health)
                    health.report("schema", ok=True, detail="migrated")
                    return
                health.report("schema", ok=False, detail="run voltwire migrate")
            finally:
                connection.terminate()
        except asyncpg.InsufficientPrivilegeError:
            detail = "this login may not read the tables: run voltwire migrate --app-role"
            health.report("schema", ok=False, detail=detail)
        except DATABASE_ERRORS:
            health.report("schema", ok=False, detail="the database cannot be queried")
        await asyncio.sleep(CHECK_S)


async def make_partitions(connection: Connection, now: datetime, *, max_age_days: int) -> int:
    """Create the months from the oldest accepted event time to two months ahead; return how many were new.

    Months that retention dropped are not created again.
    """
    floor = await connection.fetchval("select floor from rollup_state")
    start, end = max(now - timedelta(days=max_age_days + 1), floor), now + PARTITIONS_AHEAD
    made = 0
    while start < end:
        stop = min(start + PARTITION_STEP, end)
        made += await connection.fetchval("select make_event_partitions($1, $2)", start, stop)
        start = stop
    return made


async def _pending(connection: Connection, known: Sequence[Migration]) -> list[Migration]:
    applied = {
        row["version"]: row
        for row in await connection.fetch("select version, name, checksum from schema_migration")
    }
    if newer := sorted(applied.keys() - {migration.version for migration in known}):
        raise StartError(
            f"The database was migrated by a newer Voltwire ({applied[newer[-1]]['name']}):"
            " start that version or a later one."
        )
    for migration in known:
        row = applied.get(migration.version)
        if row is not None and row["checksum"] != migration.checksum:
            raise StartError(
                f"Migration {migration.name} is not the file that was applied to this database:"
                " restore the file and put changes into a new one."
            )
    return [migration for migration in known if migration.version not in applied]


async def _apply_missing(connection: Connection) -> list[Migration]:
    if not await _has_record(connection):
        await connection.execute(
            "create table schema_migration (version int primary key, name text not null,"
            " checksum text not null, applied_at timestamptz not null default clock_timestamp())"
        )
    pending = await _pending(connection, known_migrations())
    for migration in pending:
        await _apply(connection, migration)
    if pending:
        log.info("Prepared the database.", migrations=len(pending))
    return pending


async def _has_record(connection: Connection) -> bool:
    """Whether anything was ever migrated here."""
    return await connection.fetchval("select to_regclass('schema_migration')") is not None


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_migration (version, name, checksum) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
    log.debug("Applied a migration.", migration=migration.name)
