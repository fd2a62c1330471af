"""Work that one scheduler at a time does: the holder of a lease in the database."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from schema.database import DATABASE_ERRORS, WRITER_SESSION, Connection, connect
from schema.locks import take_lease

RETRY_S = 2.0

log = structlog.get_logger()


async def work_as_holder(
    dsn: str, name: str, lock: int, lease: str, work: Callable[[Connection], Awaitable[None]]
) -> None:
    """Do the work whenever we hold the lease, until cancelled. `name` appears in pg_stat_activity.

    The lease lives as long as the connection that the work gets; the work has to fail when that is lost.
    """
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(dsn, name, WRITER_SESSION)
            if await take_lease(connection, lock, lease):
                await work(connection)
        except* DATABASE_ERRORS as group:
            log.warning(
                "The holder of a lease lost the database; retrying.",
                holder=name,
                error=repr(group.exceptions[0]),
            )
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(RETRY_S)
