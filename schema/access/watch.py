"""The valid credentials, read at start, on NOTIFY, every 30 s, and when one of them ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import asyncpg
import structlog

from schema.access.credentials import Credential, Scope
from schema.access.secrets import Kind
from schema.database import DATABASE_ERRORS, Connection, connect
from schema.queries import load_queries

CHANNEL = "voltwire_credentials"
READ_EVERY_S, RETRY_S = 30.0, 1.0
ENDED_S_MIN = 0.05  # After the end of a secret, for the difference of the clocks.

T = TypeVar("T")

log = structlog.get_logger()
queries = load_queries("schema.access", "access.sql")


def follow_credentials(dsn: str, name: str) -> AsyncGenerator[Sequence[Credential], None]:
    """Yield the valid credentials now and after each change, without end."""
    return follow(dsn, name, _read)


async def follow(
    dsn: str, name: str, read: Callable[[Connection], Awaitable[tuple[T, float]]]
) -> AsyncGenerator[T, None]:
    """Yield what `read` makes of the credentials, now and after each change, without end.

    `read` also returns for how many seconds its result is true unless something changes. While the
    database is away the last result stays in force: a device is not cut off by our outage.
    """
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(dsn, name, command_timeout_s=10)
            changed = asyncio.Event()
            await connection.add_listener(CHANNEL, lambda *_, changed=changed: changed.set())
            while True:
                changed.clear()
                found, wait_s = await read(connection)
                yield found
                del found  # Ten thousand credentials take megabytes.
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await changed.wait()
        except DATABASE_ERRORS as error:
            log.warning("The credentials cannot be read; retrying.", error=repr(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(RETRY_S)


async def _read(connection: Connection) -> tuple[list[Credential], float]:
    """The valid ones, and for how long this list is true unless something changes."""
    rows = await connection.fetch(queries.valid_credentials)
    return [_credential(row) for row in rows], true_for_s(rows)


def true_for_s(rows: Sequence[asyncpg.Record]) -> float:
    """Until the first secret of these ends, or the next look."""
    ends_in_s = rows[0]["ends_in_s"] if rows else None
    if ends_in_s is None:
        return READ_EVERY_S
    return min(READ_EVERY_S, max(float(ends_in_s), 0) + ENDED_S_MIN)


def _credential(row: asyncpg.Record) -> Credential:
    return Credential(
        row["credential_id"],
        Kind(row["kind"]),
        row["name"],
        frozenset(map(Scope, row["scopes"])),
        row["digest"],
    )
