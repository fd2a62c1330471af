"""How the API reads: a pool of connections with a limit of time on everything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from api.params import EARLIEST, LATEST
from schema.errors import RawEventsDropped
from schema.queries import load_queries

ACQUIRE_S_MAX = 3.0
QUESTION_S_MAX = 12.0  # A little more than PostgreSQL gives a statement of a reader.
# Newest first without a lower bound: most answers are found in few partitions.
WIDENING = (timedelta(days=7), timedelta(days=90), None)


queries = load_queries("api")


class Reader:
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def ask(self, method: str, query: str, *arguments: Any) -> Any:
        async with self.connection(QUESTION_S_MAX) as connection:
            return await getattr(connection, method)(query, *arguments)

    @asynccontextmanager
    async def connection(self, within_s: float) -> AsyncIterator[Any]:
        """A connection of the pool, for so long in all. Raises TimeoutError.

        One that did not answer in time is thrown away: giving it back would wait for it once more.
        """
        async with asyncio.timeout(within_s):
            connection = await self._pool.acquire(timeout=ACQUIRE_S_MAX)
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    async def newest_first(
        self,
        query: str,
        subject: Sequence[Any],
        start: datetime | None,
        end: datetime | None,
        key: Sequence[Any],
        limit: int,
    ) -> list[Any]:
        """The rows from a key on, whose first part is a time; in widening windows without a start."""
        upper, rows = end or LATEST, []
        for lower in _lower_bounds(start, min(upper, key[0])):
            rows = await self.ask("fetch", query, *subject, lower, upper, *key, limit + 1)
            if len(rows) > limit or lower == (start or EARLIEST):
                break
        if start is not None:
            await self.require_kept(start)
        return list(rows)

    async def require_kept(self, start: datetime) -> None:
        """Raises RawEventsDropped if raw events from `start` on are not kept any more.

        Asked after the rows that it is about: whoever missed a partition sees the floor that made it go,
        which was committed before.
        """
        require_kept(start, await self.ask("fetchval", queries.floor_of_raw_events))


def require_kept(start: datetime, floor: datetime) -> None:
    """Raises RawEventsDropped. No event was ever taken from before EARLIEST."""
    if max(start, EARLIEST) < floor:
        raise RawEventsDropped(floor)


def _lower_bounds(start: datetime | None, upper: datetime) -> list[datetime]:
    """The lower bounds to try in turn; with a given start only that."""
    if start is not None:
        return [start]
    return [EARLIEST if span is None else max(EARLIEST, upper - span) for span in WIDENING]
