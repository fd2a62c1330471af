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
from typing import Annotated

import asyncpg
import typer
from rich.console import Console

from cli.backup.backup import queries
from cli.backup.credentials import brought_back, credentials_in
from cli.backup.input_file import backup_file
from cli.backup.program_output import watch
from cli.backup.target import (
    Target,
    beside,
    connection_to,
    create,
    drop,
    drop_leftovers,
    inspect,
    run_statement,
)
from cli.database import CommandDatabase, database_errors, database_of
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.tables import size_text
from runtime.errors import StartError
from runtime.postgres.programs import with_database
from runtime.settings import Settings
from runtime.signals import fail_on_signals
from schema.database import Connection
from schema.migrate import migrate

OPTIONS = (
    "--verbose", "--exit-on-error", "--no-password",
    "--no-owner", "--no-privileges",  # Users of the old server may not exist on this one.
)  # fmt: skip
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
    PostgreSQL runs what a backup defines: restore none that you do not trust.
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
        target = await inspect(self._database.dsn, replace=self._replace)
        fresh, old = beside(target.name, "restoring"), beside(target.name, "replaced")
        async with self._server(target) as server:
            if not await server.fetchval(queries.take_lock, target.name):
                raise StartError("Another restore of this database is running: wait for its end.")
            if target.exists and not await server.fetchval(queries.may_rename, target.name):
                raise asyncpg.InsufficientPrivilegeError
            await drop_leftovers(server, (fresh, old))
            await create(server, target, fresh)
            try:
                restored = await self._fill(with_database(self._database.dsn, fresh), target)
                await self._swap(server, target, fresh, old)
            except BaseException:
                await drop(server, fresh)
                raise
        return restored

    @asynccontextmanager
    async def _server(self, target: Target) -> AsyncIterator[Connection]:
        """A database that is not the target: no connection may be in one that is renamed."""
        name = "postgres" if target.name != "postgres" else "template1"
        async with connection_to(with_database(self._database.dsn, name)) as connection:
            yield connection

    async def _fill(self, dsn: str, target: Target) -> Restored:
        process = self._database.program("pg_restore", target.server_major).start(
            dsn, *OPTIONS, stdin=self._source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        failed = "The backup cannot be restored, and the database is as it was before"
        watch(process, self._console, self._position, failed)
        async with connection_to(dsn) as connection:
            if not await connection.fetchval(queries.holds_tables):
                raise StartError(
                    "The file is a dump of another program, not of Voltwire; the database is as it was."
                )
        await migrate(dsn, max_age_days=self._settings.max_event_age_days)
        async with connection_to(dsn) as connection:
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
                    await run_statement(server, queries.mark, target.name)
                    await run_statement(server, queries.rename, target.name, old)
                await run_statement(server, queries.rename, fresh, target.name)
                await run_statement(server, queries.unmark, target.name)
        except asyncpg.ObjectInUseError as error:
            raise StartError(
                f"A program has connected to {target.name} during the restore, so the database stays"
                " as it was: stop every role, then run it again."
            ) from error
        fail_on_signals("The restore is complete; the next one drops the old database.")
        if target.exists:
            await drop(server, old)


async def _events_in(connection: Connection) -> tuple[int, bool]:
    """How many there are, and whether they were counted."""
    estimate = int(await connection.fetchval(queries.estimate_events))
    if estimate > COUNT_MAX:
        return estimate, False
    return int(await connection.fetchval(queries.count_events)), True


@contextmanager
def _missing_rights() -> Iterator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise StartError(
            "The login of DATABASE_URL may not create and rename databases: use one that owns the database"
            " and has CREATEDB, for example that of POSTGRES_USER."
        ) from error
