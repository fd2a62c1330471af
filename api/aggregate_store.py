"""Aggregates: one statement per question, put together from the pieces in aggregates.sql.

One statement sees one snapshot: which hours are marked, their events and the rollups of the others belong
together, whatever the roller does meanwhile.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from api.buckets import Calendar, Fixed
from api.questions import (
    PERCENTILES,
    Fill,
    GroupBy,
    Question,
    Stat,
    events_from,
    rolled_hours,
)
from api.reader import QUESTION_S_MAX, Reader, require_kept
from schema.errors import InvalidRequest
from schema.queries import load_queries

AGGREGATE_ROWS_MAX = 50_000

queries = load_queries("api", "aggregates.sql")

_STDDEV = "case when {n} > 1 then sqrt(({n} * {squares} - {sum} * {sum}) / ({n} * ({n} - 1.0))) end"
# What a statistic is of readings, and of parts that were summed up before.
_OF_READINGS = {
    Stat.SUM: "sum(value)",
    Stat.AVG: "sum(value) / count(*)",
    Stat.MIN: "min(value)",
    Stat.MAX: "max(value)",
    Stat.FIRST: "(array_agg(value order by ts, event_id{device}))[1]",
    Stat.LAST: "(array_agg(value order by ts desc, event_id desc{device_desc}))[1]",
    Stat.STDDEV: _STDDEV.format(n="count(*)", sum="sum(value)", squares="sum(value * value)"),
    **{
        stat: f"(percentile_cont({share}) within group (order by value::float8))::numeric"
        for stat, share in PERCENTILES.items()
    },
}
_OF_PARTS = {
    Stat.SUM: "sum(sum)",
    Stat.AVG: "sum(sum) / sum(count)",
    Stat.MIN: "min(min)",
    Stat.MAX: "max(max)",
    Stat.FIRST: "(array_agg(first order by first_ts, first_id{device}))[1]",
    Stat.LAST: "(array_agg(last order by last_ts desc, last_id desc{device_desc}))[1]",
    Stat.STDDEV: _STDDEV.format(n="sum(count)", sum="sum(sum)", squares="sum(squares)"),
}
_FILLED = {
    Fill.NULL: "{stat}",
    Fill.PREVIOUS: "first_value({stat}) over before",
    # Weights instead of a slope. In a bucket with events both neighbours are that bucket.
    Fill.LINEAR: """coalesce({stat}, case when before > 0 and after > 0 then
        (first_value({stat}) over before * extract(epoch from first_value(at) over after - at)
         + first_value({stat}) over after * extract(epoch from at - first_value(at) over before))
        / nullif(extract(epoch from first_value(at) over after - first_value(at) over before), 0) end)""",
}


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
            if hours is None:
                source = queries.from_events
                own: list[Any] = [question.tags]
            else:
                source = queries.from_rollups
                own = [hours.start, hours.end, hours.cut]
            row = await connection.fetchrow(
                _statement(question, source), *_arguments(question, numbers), *own
            )
        if (first := events_from(question, hours)) is not None:
            require_kept(first, row["floor"])
        if row["rows"] > AGGREGATE_ROWS_MAX:
            raise _too_many_rows()
        return str(row["body"])


def _arguments(question: Question, numbers: Sequence[int] | None) -> list[Any]:
    buckets = question.buckets
    length = buckets.length if isinstance(buckets, Fixed) else None
    bounds = buckets.bounds if isinstance(buckets, Calendar) else None
    zone = question.zone.key
    return [question.metric, numbers, question.start, question.end, length, bounds, zone]


def _statement(question: Question, source: str) -> str:
    """The pieces put together; nothing of it is the caller's text."""
    expressions = _OF_PARTS if source is queries.from_rollups else _OF_READINGS
    asked = [stat for stat in question.stats if stat is not Stat.COUNT]
    buckets = source.format(
        who=_WHO[question.group_by],
        stats="".join(f", {expressions[stat]} as {stat}" for stat in asked).format(
            **_tie_break(question)
        ),
        joins=_joins(question),
    )
    rows = "select * from bucket"
    if question.fill is not Fill.NONE:
        filled = _FILLED[question.fill]
        rows = queries.fill.format(
            stats="".join(f", {filled.format(stat=stat)} as {stat}" for stat in asked),
            columns="".join(f", max({stat}) as {stat}" for stat in asked),
            names="".join(f", {stat}" for stat in asked),
            nulls=", null" * len(asked),
            groups=_GROUPS if question.group_by else _ONE_GROUP,
        )
    return str(
        queries.answer.format(
            buckets=buckets,
            rows=rows,
            members="".join(_members(question)),
            rows_max=AGGREGATE_ROWS_MAX,
        )
    )


_WHO = {None: "''", GroupBy.DEVICE: "device_id", GroupBy.TAG: 'tag collate "C"'}
_GROUPS, _ONE_GROUP = "(select distinct who from bucket) groups", "(select '' as who) groups"


def _joins(question: Question) -> str:
    joins = ""
    if question.group_by is GroupBy.DEVICE or _ties(question):
        joins += "join device using (device_no) "
    if question.group_by is GroupBy.TAG:
        joins += "cross join lateral (select distinct tag from unnest(tags) tag) tag"
    return joins


def _ties(question: Question) -> bool:
    """Whether devices must be told apart that have events at one instant."""
    ordered = not {Stat.FIRST, Stat.LAST}.isdisjoint(question.stats)
    return ordered and len(question.device_ids) != 1


def _tie_break(question: Question) -> dict[str, str]:
    ties = _ties(question)
    return {
        "device": ", device_id" if ties else "",
        "device_desc": ", device_id desc" if ties else "",
    }


def _members(question: Question) -> Iterator[str]:
    """What follows the bucket in a row of the answer, as arguments of concat()."""
    if question.group_by:
        name = "device_id" if question.group_by is GroupBy.DEVICE else "tag"
        yield f", ',\"{name}\":', to_json(who)"
    for stat in question.stats:
        value = stat if stat is Stat.COUNT else f"json_number({stat})"
        yield f", ',\"{stat}\":', {value}"


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
