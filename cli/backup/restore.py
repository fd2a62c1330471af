"""`voltwire restore FILE`: a backup into a fresh database, which then takes the place of the old one.

1. Refuse while a program is connected, or while the database holds something, unless --replace.
2. Restore into an empty database beside it, migrate that, raise the feed's numbers.
3. Swap the two names in one transaction, and drop the old database.

Killed before the swap, the old database is as it was; the next restore drops what is left.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import asyncpg
import typer
from rich.console import Console

from cli.backup.backup import queries
from cli.backup.credentials import brought_back, credentials_in
from cli.backup.input_file import backup_file
from cli.backup.program_output import watch
from cli.database import CommandDatabase, database_errors, database_of
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.tables import size_text
from runtime.errors import StartError
from runtime.postgres.programs import with_database
from runtime.settings import Settings
from runtime.signals import fail_on_signals
from schema.access.credentials import Credential
from schema.database import Connection, connect, require_version
from schema.migrate import migrate

OPTIONS = (
    "--verbose", "--exit-on-error", "--no-password",
    "--no-owner", "--no-privileges",  # Users of the old server may not exist on this one.
)  # fmt: skip
TABLES = {
    "event": "events", "rollup": "rollups", "device": "devices", "rule": "alert rules",
    "rejected": "dead letters",
}  # fmt: skip
NAME_BYTES_MAX = 63
SQL_S_MAX = 24 * 3600.0  # Creating indexes and analyzing a large database takes long.
COUNT_MAX = 5_000_000  # Above this an estimate is shown.


def restore(
    file: Annotated[
        Path,
        typer.Argument(
            help="A file that voltwire backup or pg_dump --format=custom wrote; - for standard input."
        ),
    ],
    *,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace a database that already holds events, devices or rules."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup, with all roles stopped, and migrate it to this version.

    It replaces the database of DATABASE_URL, or the embedded one in DATA_DIR, whose server it starts itself.
    The old database is dropped when the new one is complete; until then nothing of it changes.
    """
    settings = command_settings().as_owner()
    fail_on_signals("The restore was interrupted: the database is as it was before. Run it again.")
    console = Console(stderr=True)
    began = time.monotonic()
    with (
        backup_file(file) as source,
        database_errors("restored"),
        _missing_rights(),
        database_of(settings, create=True) as database,
    ):
        restored = asyncio.run(Restore(settings, database, source, console, replace=replace).run())
    seconds = time.monotonic() - began
    if as_json:
        print_json({
            "events": restored.events, "counted": restored.counted,
            "credentials": restored.credentials, "seconds": round(seconds, 3),
        })  # fmt: skip
        return
    events = f"{'' if restored.counted else 'about '}{restored.events} events"
    said = f"The restore is complete: {events}, {seconds:.0f} s."
    sentences = said, restored.credentials, "Start the roles again."
    console.print(" ".join(filter(None, sentences)), soft_wrap=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Target:
    """The database to replace, as it is now."""

    name: str
    exists: bool
    server_major: int
    feed_number: int = 0
    credentials: frozenset[Credential] = frozenset()


@dataclass(frozen=True, slots=True)
class Restored:
    """What the command says of the new database: its events, and credentials that it brought back."""

    events: int
    counted: bool  # Otherwise it is an estimate.
    credentials: str | None


class Restore:
    """One restore from an open file."""

    def __init__(
        self,
        settings: Settings,
        database: CommandDatabase,
        source: int,
        console: Console,
        *,
        replace: bool,
    ) -> None:
        self._settings, self._database, self._replace = settings, database, replace
        self._source, self._console = source, console

    async def run(self) -> Restored:
        target = await self._inspect()
        fresh, old = _beside(target.name, "restoring"), _beside(target.name, "replaced")
        async with self._server(target) as server:
            if not await server.fetchval(queries.take_lock, target.name):
                raise StartError("Another restore of this database runs: wait for its end.")
            if target.exists and not await server.fetchval(queries.may_rename, target.name):
                raise asyncpg.InsufficientPrivilegeError
            await _drop_leftovers(server, (fresh, old))
            await _create(server, target, fresh)
            try:
                restored = await self._fill(with_database(self._database.dsn, fresh), target)
                await self._swap(server, target, fresh, old)
            except BaseException:
                await _drop(server, fresh)
                raise
        return restored

    async def _inspect(self) -> Target:
        """Raises StartError where the database must not be replaced."""
        try:
            connection = await connect(self._database.dsn, "voltwire restore")
        except asyncpg.InvalidCatalogNameError:
            name = unquote(urlsplit(self._database.dsn).path[1:]) or os.environ.get("PGDATABASE")
            if not name:
                raise StartError("DATABASE_URL names no database: add its name.") from None
            async with _connection(with_database(self._database.dsn, "postgres")) as server:
                await require_version(server)
                return Target(name, exists=False, server_major=_major(server))
        try:
            await require_version(connection)
            name = await connection.fetchval("select current_database()")
            await _require_alone(connection, name)
            feed_number = 0
            if await connection.fetchval(queries.holds_tables):
                if not self._replace:
                    await _require_empty(connection, name)
                if await connection.fetchval("select to_regclass('feed_no')") is not None:
                    feed_number = await connection.fetchval(queries.feed_number)
            credentials = await credentials_in(connection)
            return Target(name, True, _major(connection), feed_number, credentials)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _server(self, target: Target) -> AsyncIterator[Connection]:
        """A database that is not the target: no connection may be in one that is renamed."""
        name = "postgres" if target.name != "postgres" else "template1"
        async with _connection(with_database(self._database.dsn, name)) as connection:
            yield connection

    async def _fill(self, dsn: str, target: Target) -> Restored:
        process = self._database.program("pg_restore", target.server_major).start(
            dsn, *OPTIONS, stdin=self._source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        failed = "The backup cannot be restored, and the database is as it was before"
        watch(process, self._console, self._position, failed)
        async with _connection(dsn) as connection:
            if not await connection.fetchval(queries.holds_tables):
                raise StartError(
                    "The file is a dump of another program, not of Voltwire; the database is as it was."
                )
        await migrate(dsn, max_age_days=self._settings.max_event_age_days)
        async with _connection(dsn) as connection:
            await connection.execute(
                queries.raise_feed_numbers.replace("$1", str(target.feed_number))
            )
            await connection.execute("analyze")
            said = brought_back(target.credentials, await credentials_in(connection))
            return Restored(*await _events_in(connection), said)

    def _position(self) -> str:
        """The program shares our place in the file; a pipe has none."""
        try:
            place, size = os.lseek(self._source, 0, os.SEEK_CUR), os.fstat(self._source).st_size
        except OSError:
            return "from standard input"
        return f"{size_text(place)} of {size_text(size)} read"

    async def _swap(self, server: Connection, target: Target, fresh: str, old: str) -> None:
        """Raises StartError if a program has connected to the old database meanwhile."""
        try:
            async with server.transaction():
                if target.exists:
                    await _run(server, queries.mark, target.name)
                    await _run(server, queries.rename, target.name, old)
                await _run(server, queries.rename, fresh, target.name)
                await _run(server, queries.unmark, target.name)
        except asyncpg.ObjectInUseError as error:
            raise StartError(
                f"A program has connected to {target.name} during the restore, so the database stays"
                " as it was: stop every role, then run it again."
            ) from error
        fail_on_signals("The restore is complete; the next one drops the old database.")
        if target.exists:
            await _drop(server, old)


async def _events_in(connection: Connection) -> tuple[int, bool]:
    """How many there are, and whether they were counted."""
    estimate = int(await connection.fetchval(queries.estimate_events))
    if estimate > COUNT_MAX:
        return estimate, False
    return int(await connection.fetchval(queries.count_events)), True


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
        if await connection.fetchval("select to_regclass($1)", table) is not None
        and await connection.fetchval(queries.contents.format(table=table))
    ]
    if found:
        raise StartError(
            f"The database {name} holds {' and '.join(found[:2])}: to lose them and restore the backup"
            " in their place, add --replace."
        )


async def _drop_leftovers(server: Connection, names: tuple[str, ...]) -> None:
    """What a killed restore left. Raises StartError for a database that somebody else made."""
    for name in names:
        if await server.fetchval(queries.database_exists, name):
            if not await server.fetchval(queries.is_ours, name):
                raise StartError(
                    f"There is a database {name}: drop or rename it, then run it again."
                )
            await _drop(server, name)


async def _create(server: Connection, target: Target, fresh: str) -> None:
    if target.exists:
        statement = await server.fetchval(queries.create_like, target.name, fresh)
    else:
        statement = await server.fetchval(queries.create_new, fresh)
    await server.execute(statement)
    await _run(server, queries.mark, fresh)


async def _drop(server: Connection, name: str) -> None:
    await _run(server, queries.drop, name)


async def _run(server: Connection, statement: str, *names: str) -> None:
    await server.execute(await server.fetchval(statement, *names))


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn, "voltwire restore", command_timeout_s=SQL_S_MAX)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@contextmanager
def _missing_rights() -> Iterator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise StartError(
            "The login of DATABASE_URL may not create and rename databases: use one that owns the database"
            " and has CREATEDB, for example that of POSTGRES_USER."
        ) from error


def _beside(name: str, suffix: str) -> str:
    """The name of a database beside this one, within PostgreSQL's limit."""
    room = NAME_BYTES_MAX - len(suffix) - 1
    return f"{name.encode()[:room].decode(errors='ignore')}_{suffix}"


def _major(connection: Any) -> int:
    return int(connection.get_server_version().major)
