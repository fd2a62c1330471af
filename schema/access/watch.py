"""The valid credentials, read at start, on NOTIFY, every 30 s, and when one of them ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import asyncpg
import structlog

from schema.access.credentials import Credential, Scope
from schema.access.secrets import CredentialKind
from schema.access.sessions import BrowserSession
from schema.database import DATABASE_ERRORS, Connection, connect, fetch_row
from schema.queries import load_queries

CHANNEL, SESSIONS_CHANNEL = "voltwire_credentials", "voltwire_sessions"
READ_EVERY_S, RETRY_S = 30.0, 1.0
SLICE_ROWS = 500  # Between two slices everything else runs.
ENDED_S_MIN = 0.05  # After the end of a secret, for the difference of the clocks.

T = TypeVar("T")

log = structlog.get_logger()
queries = load_queries("schema.access", "access.sql")


def follow_credentials(dsn: str, name: str) -> AsyncGenerator[Sequence[Credential], None]:
    """Yield the valid credentials now and after each change, without end."""
    return follow(dsn, name, _CredentialReader())


def follow_sessions(dsn: str, name: str) -> AsyncGenerator[Sequence[BrowserSession], None]:
    """Yield the valid sessions of browsers in the same way."""
    return follow(dsn, name, _read_sessions, SESSIONS_CHANNEL)


async def follow(
    dsn: str,
    name: str,
    read: Callable[[Connection], Awaitable[tuple[T | None, float]]],
    channel: str = CHANNEL,
) -> AsyncGenerator[T, None]:
    """Yield what `read` makes of the credentials, now and after each change, without end.

    `read` returns None if nothing has changed, and for how many seconds that is true otherwise. While the
    database is away the last result stays in force: a device is not cut off by our outage.
    """
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(dsn, name, command_timeout_s=10)
            changed = asyncio.Event()
            await connection.add_listener(channel, lambda *_, changed=changed: changed.set())
            # A lost connection gets no notification: find that out now, not at the next read.
            connection.add_termination_listener(lambda _, changed=changed: changed.set())
            while True:
                changed.clear()
                found, wait_s = await read(connection)
                if found is not None:
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


class _CredentialReader:
    """It keeps what it has read: what a number stands for never changes, so only new numbers are fetched."""

    def __init__(self) -> None:
        self._known: dict[int, Credential] | None = None

    async def __call__(self, connection: Connection) -> tuple[Sequence[Credential] | None, float]:
        """The valid credentials, None if they are those of the last call; and for how long this is true."""
        found = await fetch_row(connection, queries.valid_numbers)
        before = self._known or {}
        known = {number: before[number] for number in found["numbers"] if number in before}
        if self._known is not None and len(known) == len(before) == len(found["numbers"]):
            return None, valid_for_s([found])
        added = [number for number in found["numbers"] if number not in before]
        for n in range(0, len(added), SLICE_ROWS):
            part = added[n : n + SLICE_ROWS]
            rows = await connection.fetch(queries.credentials_by_number, part)
            known.update({row["credential_id"]: _credential(row) for row in rows})
        self._known = known
        return list(known.values()), valid_for_s([found])


async def valid_credentials(connection: Connection) -> Sequence[Credential]:
    """The credentials that are valid at this moment, read once."""
    found, _ = await _CredentialReader()(connection)
    return found or ()


async def _read_sessions(connection: Connection) -> tuple[list[BrowserSession], float]:
    rows = await connection.fetch(queries.valid_sessions)
    return [
        BrowserSession(row["digest"], row["credential_id"], row["left_s"]) for row in rows
    ], READ_EVERY_S


def valid_for_s(rows: Sequence[asyncpg.Record]) -> float:
    """For how long a list stays true: until its first secret ends, at most until the next read."""
    ends_in_s = rows[0]["ends_in_s"] if rows else None
    if ends_in_s is None:
        return READ_EVERY_S
    return min(READ_EVERY_S, max(float(ends_in_s), 0) + ENDED_S_MIN)


def _credential(row: asyncpg.Record) -> Credential:
    return Credential(
        row["credential_id"],
        CredentialKind(row["kind"]),
        row["name"],
        _scopes(tuple(row["scopes"])),
        row["digest"],
    )


@lru_cache(16)
def _scopes(names: tuple[str, ...]) -> frozenset[Scope]:
    return frozenset(map(Scope, names))
