"""Aggregates: one statement per question.

One statement sees one snapshot: which hours are marked, their events and the rollups of the others belong
together, whatever the roller does meanwhile.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.aggregate.buckets import Calendar, Fixed
from api.aggregate.query import (
    AggregateQuery,
    Fill,
    Hours,
    events_from,
    rolled_hours,
    share_of_events,
    whole_hours,
)
from api.aggregate.sql import Source, queries, statement
from api.store.database import QUERY_S_MAX, Database, require_kept
from runtime.errors import InvalidRequest
from schema.database import Connection, fetch_row
from schema.event import json_number

AGGREGATE_ROWS_MAX = 50_000
ROLLUP_WEIGHT = 0.5  # Of reading an event.
READINGS_MAX = 5_000_000  # About what PostgreSQL reads in the 10 s of a statement.


class AggregateStore:
    def __init__(self, reader: Database) -> None:
        self._reader = reader

    async def answer(self, question: AggregateQuery) -> str:
        """The rows as JSON text.

        Raises InvalidRequest beyond the most rows that an answer has or is made of, RawEventsDropped
        if it needs events that retention has dropped.
        """
        _require_few_buckets(question)
        async with self._reader.costly(), self._reader.connection(QUERY_S_MAX) as connection:
            facts = await connection.fetchrow(queries.facts, question.device_ids)
            numbers = facts["numbers"] if question.device_ids else None
            hours = rolled_hours(question, facts["closed"])
            await _require_few_readings(connection, question, numbers, hours)
            row = await _ask(connection, question, numbers, hours)
        first = events_from(question.start, question.end, hours)
        if first is not None:
            require_kept(first, row["floor"])
        if row["rows"] > AGGREGATE_ROWS_MAX:
            raise _too_many_rows()
        return str(row["body"])

    async def summary(
        self, device_no: int, start: datetime, end: datetime
    ) -> dict[str, dict[str, float | None]]:
        """Per metric of the range: count, min, max and avg. Raises RawEventsDropped as `answer` does."""
        async with self._reader.connection(QUERY_S_MAX) as connection:
            facts = await connection.fetchrow(queries.facts, ())
            hours = Hours(*whole_hours(start, end, facts["closed"]), cut=[])
            rows = await connection.fetch(
                queries.summary, device_no, start, end, hours.start, hours.end
            )
        if (first := events_from(start, end, hours)) is not None:
            require_kept(first, rows[0]["floor"])
        return {
            row["metric"]: {
                "count": int(row["count"]),
                **{name: _shown(row[name]) for name in ("min", "max", "avg")},
            }
            for row in rows
            if row["metric"] is not None
        }


async def _ask(
    connection: Connection,
    question: AggregateQuery,
    numbers: Sequence[int] | None,
    hours: Hours | None,
) -> Any:
    """Marked hours are rare: they are looked for with the answer, and only then is it asked for with them."""
    common = arguments(question, numbers)
    if hours is None:
        sql = statement(question, Source.EVENTS, AGGREGATE_ROWS_MAX)
        return await connection.fetchrow(sql, *common, question.tags)
    if not hours.cut:
        sql = statement(question, Source.ROLLUPS, AGGREGATE_ROWS_MAX)
        row = await fetch_row(connection, sql, *common, hours.start, hours.end)
        if not row["marked"]:
            return row
    sql = statement(question, Source.ROLLUPS_AND_EVENTS, AGGREGATE_ROWS_MAX)
    return await connection.fetchrow(sql, *common, hours.start, hours.end, hours.cut)


def _shown(value: float | None) -> float | None:
    return None if value is None else json_number(value)


def arguments(question: AggregateQuery, numbers: Sequence[int] | None) -> list[Any]:
    """$1 to $9 of the statements."""
    buckets = question.buckets
    length = buckets.length if isinstance(buckets, Fixed) else None
    bounds = buckets.bounds if isinstance(buckets, Calendar) else None
    since, offsets, texts = map(list, zip(*question.offsets, strict=True))
    return [
        question.metric, numbers, question.start, question.end, length, bounds, since, offsets, texts,
    ]  # fmt: skip


async def _require_few_readings(
    connection: Connection,
    question: AggregateQuery,
    numbers: Sequence[int] | None,
    hours: Hours | None,
) -> None:
    """By the planner's estimate, before anything is read. The rollups of one device are always few."""
    if hours is not None and len(question.device_ids) == 1:
        return
    start, end = question.start, question.end
    plan = await connection.fetchval(queries.estimate_events, start, end, numbers, question.tags)
    expected = _rows_of(plan)
    if hours is not None:
        asked = (question.metric, hours.start, hours.end, numbers)
        plan = await connection.fetchval(queries.estimate_rollups, *asked)
        expected = expected * share_of_events(start, end, hours) + _rows_of(plan) * ROLLUP_WEIGHT
    if expected > READINGS_MAX:
        raise InvalidRequest(
            f"The answer would be made of about {expected:,.0f} readings, at most {READINGS_MAX:,} are"
            " allowed: ask for a shorter range, fewer devices, or whole hours without tags and percentiles."
        )


def _rows_of(plan: str) -> float:
    return float(msgspec.json.decode(plan)[0]["Plan"]["Plan Rows"])


def _require_few_buckets(question: AggregateQuery) -> None:
    """Where every bucket of the range is a row, its number is known before anything is read."""
    if question.fill is Fill.NONE:
        return
    number = question.buckets.number(question.start, question.end)
    if number > AGGREGATE_ROWS_MAX:
        raise _too_many_rows()


def _too_many_rows() -> InvalidRequest:
    return InvalidRequest(
        f"The answer has more than {AGGREGATE_ROWS_MAX} rows: ask for a longer interval or a shorter"
        " range."
    )
