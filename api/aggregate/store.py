"""Aggregates: one statement per query.

One statement sees one snapshot. So the marked hours, their events, and the rollups of the other hours fit
together, whatever the roller does meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from api.aggregate.buckets import Calendar, Fixed
from api.aggregate.query import AggregateQuery, Fill, ReadPlan, plan_query, plan_range
from api.aggregate.sql import Source, queries, statement
from api.store.database import QUERY_S_MAX, Database
from api.store.retention import require_kept
from runtime.errors import InvalidRequest
from schema.database import Connection, fetch_row

AGGREGATE_ROWS_MAX = 50_000
ROLLUP_WEIGHT = 0.5  # The cost of reading a rollup, in events.
READINGS_MAX = 5_000_000  # About as many as PostgreSQL reads in the 10 s of a statement.


class AggregateStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._one_thread = asyncio.Lock()  # Several would keep the event loop from its turn.

    async def answer(self, prepare: Callable[[], AggregateQuery]) -> str:
        """The rows as JSON text.

        `prepare` may take a fraction of a second, as a century of days does: it runs in a thread, and only
        while one of the few slots for expensive queries is held.

        Raises InvalidRequest if the response would have too many rows or be computed from too many readings,
        RawEventsDropped if it needs events that retention has dropped.
        """
        async with self._database.heavy_query_slot():
            async with self._one_thread:
                query = await _in_thread(prepare)
            return await self._answer(query)

    async def _answer(self, query: AggregateQuery) -> str:
        _require_few_buckets(query)
        async with self._database.connection(QUERY_S_MAX) as connection:
            state = await fetch_row(connection, queries.closed_and_devices, query.device_ids)
            numbers = state["numbers"] if query.device_ids else None
            plan = plan_query(query, state["closed"])
            await _require_few_readings(connection, query, numbers, plan)
            row = await _fetch_answer(connection, query, numbers, plan)
        if plan.first_event is not None:
            require_kept(plan.first_event, row["floor"])
        if row["rows"] > AGGREGATE_ROWS_MAX:
            raise _too_many_rows()
        return str(row["body"])

    async def summary(
        self, device_no: int, start: datetime, end: datetime
    ) -> dict[str, dict[str, int | msgspec.Raw]]:
        """Per metric: count, and min, max and avg as JSON. Raises RawEventsDropped as `answer` does."""
        async with self._database.connection(QUERY_S_MAX) as connection:
            state = await fetch_row(connection, queries.closed_and_devices, ())
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


async def _in_thread(prepare: Callable[[], AggregateQuery]) -> AggregateQuery:
    """A caller that is cancelled waits for the thread, which nothing can end: it still holds its slot."""
    work = asyncio.ensure_future(asyncio.to_thread(prepare))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait((work,))
        raise


async def _fetch_answer(
    connection: Connection, query: AggregateQuery, numbers: Sequence[int] | None, plan: ReadPlan
) -> asyncpg.Record:
    """Marked hours are rare: the first statement only detects them, a second one includes them."""
    common = arguments(query, numbers)
    if not plan.uses_rollups:
        sql = statement(query, Source.EVENTS, AGGREGATE_ROWS_MAX)
        return await fetch_row(connection, sql, *common, query.tags)
    hours = plan.hours_start, plan.hours_end
    if not plan.split_hours:
        sql = statement(query, Source.ROLLUPS, AGGREGATE_ROWS_MAX)
        row = await fetch_row(connection, sql, *common, *hours)
        if not row["marked"]:
            return row
    sql = statement(query, Source.ROLLUPS_AND_EVENTS, AGGREGATE_ROWS_MAX)
    return await fetch_row(connection, sql, *common, *hours, plan.split_hours)


def arguments(query: AggregateQuery, numbers: Sequence[int] | None) -> list[Any]:
    """$1 to $9 of the statements."""
    buckets = query.buckets
    length = buckets.length if isinstance(buckets, Fixed) else None
    bounds = buckets.bounds if isinstance(buckets, Calendar) else None
    since, offsets, texts = map(list, zip(*query.offsets, strict=True))
    return [
        query.metric, numbers, query.start, query.end, length, bounds, since, offsets, texts,
    ]  # fmt: skip


async def _require_few_readings(
    connection: Connection, query: AggregateQuery, numbers: Sequence[int] | None, plan: ReadPlan
) -> None:
    """Estimate by the planner, before anything is read. The rollups of one device are always few."""
    if plan.uses_rollups and len(query.device_ids) == 1:
        return
    estimate = await connection.fetchval(
        queries.estimate_events, query.start, query.end, numbers, query.tags
    )
    readings = _rows_of(estimate) * plan.raw_fraction
    if plan.uses_rollups:
        estimate = await connection.fetchval(
            queries.estimate_rollups, query.metric, plan.hours_start, plan.hours_end, numbers
        )
        readings += _rows_of(estimate) * ROLLUP_WEIGHT
    if readings > READINGS_MAX:
        raise InvalidRequest(
            f"The response would be computed from about {readings:,.0f} readings; the limit is"
            f" {READINGS_MAX:,}. Request a shorter range, fewer devices, or whole hours without tags and"
            " percentiles."
        )


def _rows_of(estimate: str) -> float:
    return float(msgspec.json.decode(estimate)[0]["Plan"]["Plan Rows"])


def _require_few_buckets(query: AggregateQuery) -> None:
    """If every bucket of the range is a row, the number of rows is known before anything is read."""
    if query.fill is Fill.NONE:
        return
    if query.buckets.number(query.start, query.end) > AGGREGATE_ROWS_MAX:
        raise _too_many_rows()


def _too_many_rows() -> InvalidRequest:
    return InvalidRequest(
        f"The response would have more than {AGGREGATE_ROWS_MAX} rows; request a longer interval or a"
        " shorter range."
    )
