"""The database of a command that works on it directly: its connection and its errors."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from runtime.errors import StartError
from schema.database import DATABASE_ERRORS, Connection, connect
from schema.migrate import is_migrated


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
            f"The database cannot be {action}: {error or type(error).__name__}."
            f" Check DATABASE_URL and PGPASSWORD{advice}."
        ) from error
