"""The database of a command that works on it directly: which one, its connection, its errors."""

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import StartError
from runtime.postgres.home import CLUSTER, possible_homes
from runtime.postgres.programs import Program
from runtime.postgres.server import embedded_postgres, running_postgres
from runtime.settings import Settings
from schema.database import DATABASE_ERRORS, Connection, connect
from schema.migrate import is_migrated


@dataclass(frozen=True, slots=True)
class CommandDatabase:
    """`folder` is the data folder of an embedded server, None for one that DATABASE_URL names."""

    dsn: str
    folder: Path | None = None

    def program(self, name: str, server_major: int) -> Program:
        """PostgreSQL's program of this name that works on this server. Raises StartError."""
        if self.folder is not None:
            return Program.embedded(name, self.folder)
        return Program.for_server(name, server_major)


@contextmanager
def database_of(settings: Settings, *, create: bool = False) -> Iterator[CommandDatabase]:
    """The database of DATABASE_URL, of the `voltwire up` that runs, or else of its data folder.

    In the last case the embedded server runs for the block. Raises StartError if the folder holds
    no cluster, unless `create`.
    """
    if settings.database_url is not None:
        yield CommandDatabase(settings.dsn)
        return
    folder = settings.data_dir
    try:
        running = None if create else running_postgres(folder)
        known = any((home / CLUSTER).exists() for home in possible_homes(folder.resolve()))
    except PermissionError as error:
        raise StartError(
            f"{folder} belongs to another user: run this as the user who started voltwire up."
        ) from error
    if running is not None:
        yield CommandDatabase(running, folder)
        return
    if not known and not create:
        raise StartError(
            f"DATABASE_URL is not set, and {folder} holds no database: set DATABASE_URL or DATA_DIR."
        )
    with embedded_postgres(folder) as dsn:
        yield CommandDatabase(dsn, folder)


def running_dsn(settings: Settings) -> str:
    """The database of DATABASE_URL or of the `voltwire up` that runs. Raises StartError."""
    if settings.database_url is not None:
        return settings.dsn
    if (dsn := running_postgres(settings.data_dir)) is not None:
        return dsn
    raise StartError(
        f"DATABASE_URL is not set, and no voltwire up runs on {settings.data_dir}: set DATABASE_URL,"
        " or start voltwire up first."
    )


@asynccontextmanager
async def migrated_connection(
    dsn: str, name: str, limits: dict[str, str], *, command_timeout_s: float
) -> AsyncIterator[Connection]:
    """Raises StartError if the schema is older than this version."""
    connection = await connect(dsn, name, limits, command_timeout_s=command_timeout_s)
    try:
        if not await is_migrated(connection):
            raise StartError("The database is older than this version: run voltwire migrate first.")
        yield connection
    finally:
        connection.terminate()


@contextmanager
def database_errors(action: str, advice: str = "") -> Iterator[None]:
    """Turn a database error into a StartError: what failed, and what to check."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise StartError(
            f"The database cannot be {action}: {database_reason(error)}."
            f" Check DATABASE_URL and PGPASSWORD{advice}."
        ) from error


def database_reason(error: BaseException) -> str:
    """The text of an error, without the full stop, line ends and number that some libraries add."""
    if isinstance(error, OSError) and error.errno and error.strerror and "failed" in error.strerror:
        return os.strerror(error.errno)  # Of asyncio, which names only the address.
    text = re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split())).rstrip(".")
    return text or type(error).__name__
