"""Connections to PostgreSQL: one way to open them, with all time limits in one place."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from runtime.errors import StartError
from runtime.health import Health
from schema.queries import load_queries

MIN_VERSION = 18  # RETURNING old.*, uuidv7(), transaction_timeout.
CONNECT_TIMEOUT_S = 5
WATCH_EVERY_S, WATCH_S_MAX = 1.0, 2.0
# Everything that asyncpg may raise while a database is unreachable, restarting or overloaded.
DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
TCP_LIMITS = {
    # A server that vanished without closing the connection is noticed within half a minute.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# A writer that stops in mid-transaction holds the locks of its lanes: the server soon ends it.
WRITER_SESSION = {
    "lock_timeout": "5s",
    "statement_timeout": "20s",
    "idle_in_transaction_session_timeout": "5s",
    "transaction_timeout": "30s",
}
# Queries on partitioned tables need plans for their values: a generic plan locks every partition.
API_SESSION = {
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "plan_cache_mode": "force_custom_plan",
    "work_mem": "32MB",  # 50,000 rows of an aggregate are sorted without a file.
}
# Planning a query about one device takes four times as long as running it, so plans are kept. The queries
# name instants as constants: a plan concerns few partitions. A table that was empty then may have grown.
LOOKUP_SESSION = API_SESSION | {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}

queries = load_queries("schema", "database.sql")
log = structlog.get_logger()

# A separate connection, or one borrowed from a pool.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


async def connect(
    dsn: str, name: str, limits: dict[str, str] | None = None, *, command_timeout_s: float = 30
) -> "asyncpg.Connection[asyncpg.Record]":
    """Open one connection; `name` appears in pg_stat_activity."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings=_server_settings(name, limits),
    )


async def open_pool(
    dsn: str, name: str, limits: dict[str, str], *, size_max: int, command_timeout_s: float = 30
) -> Pool:
    """Create a pool that connects on first use, so that a role can start before its database."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size_max,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings=_server_settings(name, limits),
        reset=_keep_session,
    )


async def _keep_session(_: Connection) -> None:
    """Spare the round trip of RESET ALL: no borrower changes the session, and asyncpg ends a transaction."""


async def fetch_row(connection: Connection, query: str, *arguments: object) -> asyncpg.Record:
    """Return the row of a query that always has one. Raises LookupError if it has none."""
    row = await connection.fetchrow(query, *arguments)
    if row is None:
        raise LookupError("The query returned no row.")
    return row


async def watch(
    dsn: str, name: str, health: Health, look: Callable[[Connection], Awaitable[None]]
) -> None:
    """Report whether the database answers, also while nothing else uses it, until cancelled.

    `look` asks it for more. It has its own connection: in a pool, a query without a response would delay
    the next one.
    """
    connection: Connection | None = None
    try:
        while True:
            try:
                async with asyncio.timeout(WATCH_S_MAX):
                    if connection is None:
                        connection = await connect(dsn, name)
                    await connection.fetchval("select 1")
                    await look(connection)
            except DATABASE_ERRORS as error:
                if health.report("database", ok=False, detail="unavailable, retrying"):
                    log.warning("The database is unavailable.", error=repr(error))
                if connection is not None:
                    connection.terminate()
                    connection = None
                # Each failed connection, wherever in this process, leaves 19 KB of reference cycles. The
                # collector is tuned for a busy process (cli/roles/runner.py) and would run only after hours.
                gc.collect()
            else:
                health.report("database", ok=True, detail="reachable")
            await asyncio.sleep(WATCH_EVERY_S)
    finally:
        if connection is not None:
            connection.terminate()


async def report_durability(connection: Connection, health: Health) -> None:
    """Log an error if a crash of this server can lose commits: then no event is safe."""
    faults = await unsafe_settings(connection)
    if faults:
        log.error("A crash of the database may lose acknowledged events.", settings=faults)
    health.report("durability", ok=not faults, detail=faults or "commits are on disk")


async def unsafe_settings(connection: Connection) -> str:
    """The settings of the server with which a crash may lose commits, such as `fsync=off`; empty for none."""
    return str(await connection.fetchval(queries.unsafe_settings))


async def require_version(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < MIN_VERSION:
        raise StartError(
            f"The database is PostgreSQL {version.major}; Voltwire needs {MIN_VERSION} or newer."
        )


def _server_settings(name: str, limits: dict[str, str] | None) -> dict[str, str]:
    return {"application_name": name, "timezone": "UTC", **TCP_LIMITS, **(limits or {})}
