"""The database as the API uses it: a pool of connections, with a time limit on everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from runtime.errors import Overloaded
from schema.database import Connection, Pool

ACQUIRE_S_MAX = 3.0
QUERY_S_MAX = 12.0  # Slightly more than the statement timeout of API_SESSION.
HEAVY_QUERIES_MAX = 4  # At the same time, out of the connections of the pool (api/run.py).


class Database:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._heavy_slots = asyncio.Semaphore(HEAVY_QUERIES_MAX)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.connection(QUERY_S_MAX) as connection:
            return await connection.fetch(query, *arguments)

    async def fetch_row(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        async with self.connection(QUERY_S_MAX) as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetch_value(self, query: str, *arguments: Any) -> Any:
        async with self.connection(QUERY_S_MAX) as connection:
            return await connection.fetchval(query, *arguments)

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
            connection = await self._free_connection()
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    async def _free_connection(self) -> "PoolConnectionProxy[asyncpg.Record]":
        try:
            return await self._pool.acquire(timeout=ACQUIRE_S_MAX)
        except TimeoutError:
            if self._pool.get_size() - self._pool.get_idle_size() < self._pool.get_max_size():
                raise
            raise Overloaded("Too many queries are running; retry.") from None
