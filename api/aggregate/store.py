"""Aggregates: one statement per query.

`api/aggregate/reader.py` reads for one interval; here the interval is chosen, and the query gets its place.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import asyncpg
import msgspec

from api.aggregate.intervals import AUTO, fitting
from api.aggregate.query import AggregateQuery, plan_range
from api.aggregate.reader import AGGREGATE_ROWS_MAX, Reader, reader_for
from api.aggregate.response import written
from api.aggregate.sql import queries
from api.store.database import QUERY_S_MAX, Database
from api.store.retention import require_kept
from runtime.errors import InvalidRequest, RawEventsDropped, RequestError
from schema.database import fetch_row

Result = TypeVar("Result")

SHORT = timedelta(days=400)  # The buckets of such a range are computed within 2 ms.


class AggregateResponse(NamedTuple):
    body: bytes  # JSON
    interval: str


class Found(NamedTuple):
    """The columns that answer a query."""

    query: AggregateQuery
    row: asyncpg.Record
    interval: str


class AggregateStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._one_thread = (
            asyncio.Lock()
        )  # Several threads would keep the event loop from its turn.

    async def respond(
        self, query: AggregateQuery, interval: str, points_max: int
    ) -> AggregateResponse:
        """The response. `interval` may be `auto`: the shortest of at most `points_max` that is not refused.

        Raises InvalidRequest if the response would have too many rows or be computed from too many readings,
        RawEventsDropped if it needs events that retention has dropped.
        """
        async with self._database.heavy_query_slot():
            async with self._database.connection(QUERY_S_MAX) as connection:
                reader = await reader_for(connection, query)
                if interval == AUTO:
                    found = await self._shortest(reader, query, points_max)
                else:
                    found = await self._of_interval(reader, query, interval)
            return AggregateResponse(await written(found.query, found.row), found.interval)

    async def _of_interval(self, reader: Reader, query: AggregateQuery, interval: str) -> "Found":
        query = await self._with_interval(query, interval)
        row = await reader.read(query)
        if row is None:
            groups = await reader.number_of_groups(query)
            raise await self._in_thread(lambda: _too_many_rows(query, groups))
        return Found(query, row, interval)

    async def _shortest(self, reader: Reader, query: AggregateQuery, points_max: int) -> "Found":
        refused: RequestError = InvalidRequest(
            f"max_points: no interval divides the range so that each group has at most {points_max}"
            f" buckets and the response at most {AGGREGATE_ROWS_MAX} rows; request a shorter range, fewer"
            " groups, or more points."
        )
        for interval in await self._in_thread(
            lambda: list(fitting(points_max, query.zone, query.start, query.end))
        ):
            try:
                with_interval = await self._with_interval(query, interval)
                row = await reader.read(with_interval)
            except (InvalidRequest, RawEventsDropped) as error:
                refused = error
            else:
                if row is not None:
                    return Found(with_interval, row, interval)
        raise refused

    async def _with_interval(self, query: AggregateQuery, interval: str) -> AggregateQuery:
        if query.end - query.start <= SHORT:
            return query.of(interval)
        return await self._in_thread(lambda: query.of(interval))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """For what may take a fraction of a second, as a century of days does."""
        async with self._one_thread:
            return await _in_thread(work)

    async def summary(
        self, device_no: int, start: datetime, end: datetime
    ) -> dict[str, dict[str, int | msgspec.Raw]]:
        """Per metric: count, and min, max and avg as JSON. Raises RawEventsDropped as `respond` does."""
        async with self._database.connection(QUERY_S_MAX) as connection:
            state = await fetch_row(connection, queries.closed_and_devices, (), ())
            plan = plan_range(start, end, state["closed"])
            rows = await connection.fetch(
                queries.summary, device_no, start, end, plan.hours_start, plan.hours_end
            )
        if plan.first_event is not None:
            require_kept(plan.first_event, rows[0]["floor"])
        return {
            row["metric"]: {
                "count": int(row["count"]),
                **{name: msgspec.Raw(row[name].encode()) for name in ("min", "max", "avg")},
            }
            for row in rows
            if row["metric"] is not None
        }


async def _in_thread(work: Callable[[], Result]) -> Result:
    """A caller that is cancelled waits for the thread, which nothing can end: it still holds its slot."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


def _too_many_rows(query: AggregateQuery, groups: int) -> InvalidRequest:
    buckets_max = AGGREGATE_ROWS_MAX // max(groups, 1)
    found = next(fitting(buckets_max, query.zone, query.start, query.end), None)
    advice = f"interval={found} would fit" if found else "request a shorter range or fewer groups"
    return InvalidRequest(f"The response would have more than {AGGREGATE_ROWS_MAX} rows; {advice}.")
