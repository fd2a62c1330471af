"""How the API reads: a pool of connections with a limit of time on everything."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from runtime.errors import InvalidRequest, Overloaded, RawEventsDropped
from schema.instants import EARLIEST, LATEST
from schema.queries import load_queries

ACQUIRE_S_MAX = 3.0
QUERY_S_MAX = 12.0  # A little more than PostgreSQL gives a statement of a reader.
HEAVY_QUERIES_MAX = 4  # At a time, of the connections of a pool (api/run.py).
CHANGE_S_MAX = 4.5  # A 503 to a change comes within 5 s.
# How far back the windows of a question reach, newest first; then comes everything before.
DEVICE_WINDOWS = (
    timedelta(days=7),
    timedelta(days=90),
)  # Read in order: only partitions are spared.
# Sorted after they were read: a tag that every event carries is found in the first minutes.
FLEET_WINDOWS = tuple(timedelta(minutes=4**n) for n in range(11))


queries = load_queries("api.store", "events.sql")


class Database:
    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._costly = asyncio.Semaphore(HEAVY_QUERIES_MAX)

    async def ask(self, method: str, query: str, *arguments: Any) -> Any:
        async with self.connection(QUERY_S_MAX) as connection:
            return await getattr(connection, method)(query, *arguments)

    @asynccontextmanager
    async def costly(self) -> AsyncIterator[None]:
        """One of the few places for questions that may take seconds. Raises Overloaded.

        The other connections stay free for those that take milliseconds.
        """
        try:
            await asyncio.wait_for(self._costly.acquire(), ACQUIRE_S_MAX)
        except TimeoutError:
            raise Overloaded("Too many costly questions are under way: ask again.") from None
        try:
            yield
        finally:
            self._costly.release()

    @asynccontextmanager
    async def connection(self, within_s: float) -> AsyncIterator[Any]:
        """A connection of the pool, for so long in all. Raises TimeoutError, Overloaded.

        One that did not answer in time is thrown away: giving it back would wait for it once more.
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

    async def _free_connection(self) -> Any:
        try:
            return await self._pool.acquire(timeout=ACQUIRE_S_MAX)
        except TimeoutError:
            if self._pool.get_size() - self._pool.get_idle_size() < self._pool.get_max_size():
                raise
            raise Overloaded("Too many questions are under way: ask again.") from None

    async def newest_first(
        self,
        query: str,
        subject: Sequence[Any],
        start: datetime | None,
        end: datetime | None,
        key: Sequence[Any],
        limit: int,
        spans: Sequence[timedelta],
    ) -> list[Any]:
        """The rows from a key on, whose first part is a time; one more than `limit` if there are more."""
        first, last = start or EARLIEST, end or LATEST
        newest = min(last, key[0], datetime.now(UTC))
        rows: list[Any] = []
        began = monotonic()
        for window in windows(first, last, newest, spans):
            if monotonic() - began > QUERY_S_MAX:
                raise InvalidRequest(
                    f"The question takes longer than {QUERY_S_MAX:.0f} s: ask for a shorter range."
                )
            rows += await self.ask("fetch", query, *subject, *window, *key, limit + 1 - len(rows))
            if len(rows) > limit:
                break
        needed = needed_instant(start, end)
        if needed is not None:
            await self.require_kept(needed)
        return rows

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


def needed_instant(start: datetime | None, end: datetime | None) -> datetime | None:
    """The instant without whose events a range cannot be answered: its first one.

    A range without a beginning is what there is; if even its last instant is gone, nothing of it is.
    """
    if start is not None or end is None:
        return start
    return max(end, EARLIEST) - timedelta(microseconds=1)


def windows(
    start: datetime, end: datetime, newest: datetime, spans: Sequence[timedelta]
) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in half-open pieces, the newest first; they begin so long before `newest`."""
    upper = end
    for span in spans:
        if newest - start <= span:
            break
        yield newest - span, upper
        upper = newest - span
    yield start, upper
