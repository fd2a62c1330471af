"""The database as the API uses it: two pools of connections, with a time limit on everything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from runtime.errors import Overloaded
from schema.database import Connection, Pool

ACQUIRE_S_MAX = 3.0
QUERY_S_MAX = 12.0  # Slightly more than the statement timeout of API_SESSION.
HEAVY_QUERIES_MAX = 4  # At the same time, out of the connections of the pool (api/run.py).


class Database:
    """`lookups`: connections of a LOOKUP_SESSION; without them, `look_up` takes any."""

    def __init__(self, pool: Pool, lookups: "Pool | None" = None) -> None:
        self._pool, self._lookups = pool, lookups or pool
        self._heavy_slots = asyncio.Semaphore(HEAVY_QUERIES_MAX)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one query. Raises TimeoutError, Overloaded."""
        return await _fetch(self._pool, query, arguments)

    async def fetch_row(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def fetch_value(self, query: str, *arguments: Any) -> Any:
        row = await self.fetch_row(query, *arguments)
        return None if row is None else row[0]

    async def look_up(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of a query whose plan is kept, which serves all arguments (LOOKUP_SESSION)."""
        rows = await _fetch(self._lookups, query, arguments)
        return rows[0] if rows else None

    @asynccontextmanager
    async def heavy_query_slot(self) -> AsyncIterator[None]:
        """One of the few slots for queries that may take seconds. Raises Overloaded.

        The remaining connections stay free for queries that take milliseconds.
        """
        try:
            await asyncio.wait_for(self._heavy_slots.acquire(), ACQUIRE_S_MAX)
        except TimeoutError:
            raise Overloaded("Too many expensive queries are running; retry.") from None
        try:
            yield
        finally:
            self._heavy_slots.release()

    @asynccontextmanager
    async def connection(self, within_s: float) -> AsyncIterator[Connection]:
        """A connection of the pool, for `within_s` in total. Raises TimeoutError, Overloaded.

        A connection that did not answer in time is terminated: returning it would wait for it again.
        """
        async with asyncio.timeout(within_s):
            connection = await _free_connection(self._pool)
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)


def constant(at: datetime) -> str:
    """An instant as a part of a statement. The plan of each one is kept, so there should be few."""
    return f"'{at.isoformat()}'::timestamptz"


async def _fetch(pool: Pool, query: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
    """Like `Database.connection`, whose timer and context take as long as asyncpg takes for a query."""
    connection = await _free_connection(pool)
    try:
        return await connection.fetch(query, *arguments, timeout=QUERY_S_MAX)
    except (asyncio.CancelledError, TimeoutError):
        connection.terminate()
        raise
    finally:
        await pool.release(connection)


async def _free_connection(pool: Pool) -> "PoolConnectionProxy[asyncpg.Record]":
    try:
        return await pool.acquire(timeout=ACQUIRE_S_MAX)
    except TimeoutError:
        if pool.get_size() - pool.get_idle_size() < pool.get_max_size():
            raise
        raise Overloaded("Too many queries are running; retry.") from None
