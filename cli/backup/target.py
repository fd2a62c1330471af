"""The database that a restore replaces, and the ones that it makes beside it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import asyncpg

from cli.backup.backup import queries
from cli.backup.credentials import credentials_in
from runtime.errors import StartError
from runtime.postgres.programs import with_database
from schema.access.credentials import Credential
from schema.database import Connection, connect, require_version

TABLES = {
    "event": "events", "rollup": "rollups", "device": "devices", "rule": "alert rules",
    "rejected": "dead letters",
}  # fmt: skip
NAME_BYTES_MAX = 63
SQL_S_MAX = 24 * 3600.0  # Creating indexes and analyzing a large database takes long.


@dataclass(frozen=True, slots=True)
class Target:
    """The database to replace, as it is now."""

    name: str
    exists: bool
    server_major: int
    feed_number: int = 0
    credentials: frozenset[Credential] = frozenset()


async def inspect(dsn: str, *, replace: bool) -> Target:
    """The database of the DSN. Raises StartError if it must not be replaced."""
    try:
        connection = await connect(dsn, "voltwire restore")
    except asyncpg.InvalidCatalogNameError:
        name = unquote(urlsplit(dsn).path[1:]) or os.environ.get("PGDATABASE")
        if not name:
            raise StartError("DATABASE_URL names no database: add its name.") from None
        async with connection_to(with_database(dsn, "postgres")) as server:
            await require_version(server)
            return Target(name, exists=False, server_major=_major(server))
    try:
        await require_version(connection)
        name = await connection.fetchval(queries.database_name)
        await _require_alone(connection, name)
        feed_number = 0
        if await connection.fetchval(queries.holds_tables):
            if not replace:
                await _require_empty(connection, name)
            if await connection.fetchval(queries.table_exists, "feed_no"):
                feed_number = await connection.fetchval(queries.feed_number)
        credentials = await credentials_in(connection)
        return Target(name, True, _major(connection), feed_number, credentials)
    finally:
        connection.terminate()


async def _require_alone(connection: Connection, name: str) -> None:
    """Raises StartError while another program is connected: it would write into the old database."""
    if programs := [row[0] for row in await connection.fetch(queries.sessions)]:
        named = ", ".join(sorted(set(programs)))
        raise StartError(
            f"{len(programs)} connections to the database {name} are open ({named}): stop every role and"
            " program that uses it, then run it again."
        )


async def _require_empty(connection: Connection, name: str) -> None:
    found = [
        shown
        for table, shown in TABLES.items()
        if await connection.fetchval(queries.table_exists, table)
        and await connection.fetchval(queries.contents.format(table=table))
    ]
    if found:
        raise StartError(
            f"The database {name} holds {' and '.join(found[:2])}: to lose them and restore the backup"
            " in their place, add --replace."
        )


async def drop_leftovers(server: Connection, names: tuple[str, ...]) -> None:
    """What a killed restore left. Raises StartError for a database that somebody else made."""
    for name in names:
        if await server.fetchval(queries.database_exists, name):
            if not await server.fetchval(queries.is_ours, name):
                raise StartError(
                    f"There is a database {name}: drop or rename it, then run it again."
                )
            await drop(server, name)


async def create(server: Connection, target: Target, fresh: str) -> None:
    if target.exists:
        statement = await server.fetchval(queries.create_like, target.name, fresh)
    else:
        statement = await server.fetchval(queries.create_new, fresh)
    await server.execute(statement)
    await run_statement(server, queries.mark, fresh)


async def drop(server: Connection, name: str) -> None:
    await run_statement(server, queries.drop, name)


async def run_statement(server: Connection, statement: str, *names: str) -> None:
    await server.execute(await server.fetchval(statement, *names))


@asynccontextmanager
async def connection_to(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn, "voltwire restore", command_timeout_s=SQL_S_MAX)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def beside(name: str, suffix: str) -> str:
    """The name of a database beside this one, within PostgreSQL's limit."""
    room = NAME_BYTES_MAX - len(suffix) - 1
    return f"{name.encode()[:room].decode(errors='ignore')}_{suffix}"


def _major(connection: Connection) -> int:
    return int(connection.get_server_version().major)
