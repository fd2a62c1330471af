"""The rows of an aggregate for one interval: one statement per query.

One statement sees one snapshot. So the marked hours, their events, and the rollups of the other hours fit
together, whatever the roller does meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from api.aggregate.buckets import Calendar, Fixed
from api.aggregate.query import AggregateQuery, Fill, ReadPlan, plan_query
from api.aggregate.sql import (
    Source,
    condition_numbers,
    condition_texts,
    groups_statement,
    queries,
    statement,
)
from api.store.retention import require_kept
from runtime.errors import InvalidRequest
from schema.database import Connection, fetch_row

AGGREGATE_ROWS_MAX = 50_000
ROLLUP_WEIGHT = 0.5  # The cost of reading a rollup, in events.
READINGS_SORTED = 8  # Per bucket.
READINGS_MAX = 5_000_000  # About as many as PostgreSQL reads in the 10 s of a statement.


async def reader_for(connection: Connection, query: AggregateQuery) -> "Reader":
    devices = query.device_ids, query.device_tags
    state = await fetch_row(connection, queries.closed_and_devices, *devices)
    numbers = state["numbers"] if any(devices) else None
    return Reader(connection, numbers, state["closed"], state["floor"])


@dataclass(frozen=True, slots=True)
class Reader:
    """`numbers` are the devices of the query, None for the fleet; `closed` and `floor` as in rollup_state."""

    connection: Connection
    numbers: Sequence[int] | None
    closed: datetime
    floor: datetime

    async def read(self, query: AggregateQuery) -> asyncpg.Record | None:
        """The columns of the rows, None if there are too many. Raises InvalidRequest, RawEventsDropped."""
        plan = plan_query(query, self.closed)
        if plan.first_event is not None:
            require_kept(plan.first_event, self.floor)
        readings = await self._estimate_readings(query, plan)
        _require_few(readings)
        if not _has_few_buckets(query):
            return None
        row = await self._fetch(query, plan, readings)
        if plan.first_event is not None:  # Retention may have dropped them meanwhile.
            require_kept(plan.first_event, row["floor"])
        return row if row["rows"] <= AGGREGATE_ROWS_MAX else None

    async def number_of_groups(self, query: AggregateQuery) -> int:
        if query.fixed_groups is not None:
            return query.fixed_groups
        plan = plan_query(query, self.closed)
        common = arguments(query, self.numbers)
        if plan.uses_rollups:
            source = Source.ROLLUPS_AND_EVENTS
            more = [plan.hours_start, plan.hours_end, plan.split_hours]
        else:
            source, more = Source.EVENTS, [query.tags]
        row = await fetch_row(self.connection, groups_statement(query, source), *common, *more)
        return int(row["groups"])

    async def _fetch(
        self, query: AggregateQuery, plan: ReadPlan, readings: float
    ) -> asyncpg.Record:
        """Marked hours are rare: the first statement only detects them, a second one includes them."""
        common = arguments(query, self.numbers)
        if not plan.uses_rollups:
            source = Source.EVENTS_IN_ORDER if _is_dense(query, readings) else Source.EVENTS
            sql = statement(query, source, AGGREGATE_ROWS_MAX)
            return await fetch_row(self.connection, sql, *common, query.tags)
        hours = plan.hours_start, plan.hours_end
        if not plan.split_hours:
            sql = statement(query, Source.ROLLUPS, AGGREGATE_ROWS_MAX)
            row = await fetch_row(self.connection, sql, *common, *hours)
            if not row["marked"]:
                return row
        sql = statement(query, Source.ROLLUPS_AND_EVENTS, AGGREGATE_ROWS_MAX)
        return await fetch_row(self.connection, sql, *common, *hours, plan.split_hours)

    async def _estimate_readings(self, query: AggregateQuery, plan: ReadPlan) -> float:
        """By the planner, before anything is read. The rollups of one device are always few: 0."""
        if plan.uses_rollups and len(query.device_ids) == len(query.metrics) == 1:
            return 0.0
        range_of = query.start, query.end, self.numbers
        estimate = await self.connection.fetchval(queries.estimate_events, *range_of, query.tags)
        readings = _rows_of(estimate) * plan.raw_fraction * len(query.metrics)
        if plan.uses_rollups:
            hours = plan.hours_start, plan.hours_end, self.numbers
            estimate = await self.connection.fetchval(
                queries.estimate_rollups, query.metrics, *hours
            )
            readings += _rows_of(estimate) * ROLLUP_WEIGHT
        return readings


def arguments(query: AggregateQuery, numbers: Sequence[int] | None) -> list[Any]:
    """$1 to $8 of the statements."""
    buckets = query.buckets
    length = buckets.length if isinstance(buckets, Fixed) else None
    bounds = buckets.bounds if isinstance(buckets, Calendar) else None
    return [
        query.metrics[0] if len(query.metrics) == 1 else query.metrics,
        numbers, query.start, query.end, length, bounds,
        condition_texts(query), condition_numbers(query),
    ]  # fmt: skip


def _require_few(readings: float) -> None:
    if readings > READINGS_MAX:
        raise InvalidRequest(
            f"The response would be computed from about {readings:,.0f} readings; the limit is"
            f" {READINGS_MAX:,}. Request a shorter range, fewer devices, or whole hours without tags of"
            " events, where and percentiles."
        )


def _is_dense(query: AggregateQuery, readings: float) -> bool:
    """Whether the readings are one series, and a bucket has so few that sorting them is faster."""
    one_series = len(query.device_ids) == len(query.metrics) == 1 and not query.group_by
    return one_series and readings < READINGS_SORTED * query.buckets.number(query.start, query.end)


def _rows_of(estimate: str) -> float:
    return float(msgspec.json.decode(estimate)[0]["Plan"]["Plan Rows"])


def _has_few_buckets(query: AggregateQuery) -> bool:
    """If every bucket of the range is a row, the number of rows is known before anything is read."""
    if query.fill is Fill.NONE:
        return True
    groups = query.fixed_groups or 1
    return groups * query.buckets.number(query.start, query.end) <= AGGREGATE_ROWS_MAX
