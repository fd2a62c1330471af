"""Aggregates: one statement per question.

One statement sees one snapshot: which hours are marked, their events and the rollups of the others belong
together, whatever the roller does meanwhile.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from api.aggregate_sql import queries, statement
from api.buckets import Calendar, Fixed
from api.questions import Fill, Hours, Question, events_from, rolled_hours, whole_hours
from api.reader import QUESTION_S_MAX, Reader, require_kept
from schema.errors import InvalidRequest
from schema.event import plain_number

AGGREGATE_ROWS_MAX = 50_000


class AggregateStore:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def answer(self, question: Question) -> str:
        """The rows as JSON text.

        Raises InvalidRequest beyond the most rows of an answer, RawEventsDropped if it needs events
        that retention has dropped.
        """
        _require_few_buckets(question)
        async with self._reader.connection(QUESTION_S_MAX) as connection:
            facts = await connection.fetchrow(queries.facts, question.device_ids)
            numbers = facts["numbers"] if question.device_ids else None
            hours = rolled_hours(question, facts["closed"])
            own = [question.tags] if hours is None else [hours.start, hours.end, hours.cut]
            sql = statement(question, rolled=hours is not None, rows_max=AGGREGATE_ROWS_MAX)
            row = await connection.fetchrow(sql, *_arguments(question, numbers), *own)
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
        async with self._reader.connection(QUESTION_S_MAX) as connection:
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


def _shown(value: float | None) -> float | None:
    return None if value is None else plain_number(value)


def _arguments(question: Question, numbers: Sequence[int] | None) -> list[Any]:
    """$1 to $7 of the statements."""
    buckets = question.buckets
    length = buckets.length if isinstance(buckets, Fixed) else None
    bounds = buckets.bounds if isinstance(buckets, Calendar) else None
    zone = question.zone.key
    return [question.metric, numbers, question.start, question.end, length, bounds, zone]


def _require_few_buckets(question: Question) -> None:
    """Where every bucket of the range is a row, its number is known before anything is read."""
    if question.fill is Fill.NONE:
        return
    buckets = question.buckets
    number = (
        buckets.number(question.start, question.end)
        if isinstance(buckets, Fixed)
        else len(buckets.bounds) - 1
    )
    if number > AGGREGATE_ROWS_MAX:
        raise _too_many_rows()


def _too_many_rows() -> InvalidRequest:
    return InvalidRequest(
        f"The answer has more than {AGGREGATE_ROWS_MAX} rows: ask for a longer interval or a shorter"
        " range."
    )
