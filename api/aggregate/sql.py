"""The statement that answers a question, put together from the pieces in aggregates.sql. Pure.

Nothing of it is the caller's text: what is asked chooses among pieces, values are parameters.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto

from api.aggregate.buckets import HOUR, Fixed
from api.aggregate.query import PERCENTILES, AggregateQuery, Fill, GroupBy, Stat
from schema.queries import load_queries

queries = load_queries("api.aggregate", "aggregates.sql")

DOUBLE_MAX = sys.float_info.max

_WHO = {None: "''", GroupBy.DEVICE: "device_id", GroupBy.TAG: 'tag collate "C"'}
_MEMBER = {GroupBy.DEVICE: "device_id", GroupBy.TAG: "tag"}
HOURLY = Fixed(HOUR)
_STDDEV = "case when {n} > 1 then sqrt(({n} * {squares} - {sum} * {sum}) / ({n} * ({n} - 1.0))) end"

# What a statistic is of readings, and of parts that were summed up before.
_OF_READINGS = {
    Stat.SUM: "sum(value)",
    Stat.AVG: "case when count(*) = 1 then sum(value) else sum(value) / count(*) end",
    Stat.MIN: "min(value)",
    Stat.MAX: "max(value)",
    Stat.FIRST: "(array_agg(value order by ts, event_id{device}))[1]",
    Stat.LAST: "(array_agg(value order by ts, event_id{device}))[count(*)]",
    Stat.STDDEV: _STDDEV.format(n="count(*)", sum="sum(value)", squares="sum(value * value)"),
    **{
        stat: f"(percentile_cont({share}) within group (order by value::float8))::text::numeric"
        for stat, share in PERCENTILES.items()
    },
}
_OF_PARTS = {
    Stat.SUM: "sum(sum)",
    Stat.AVG: "sum(sum) / sum(count)",
    Stat.MIN: "min(min)",
    Stat.MAX: "max(max)",
    Stat.FIRST: "(array_agg(first order by first_ts, first_id{device}))[1]",
    Stat.LAST: "(array_agg(last order by last_ts, last_id{device}))[count(*)]",
    Stat.STDDEV: _STDDEV.format(n="sum(count)", sum="sum(sum)", squares="sum(squares)"),
}
_OF_HOUR = {
    **{stat: str(stat) for stat in (Stat.SUM, Stat.MIN, Stat.MAX, Stat.FIRST, Stat.LAST)},
    Stat.AVG: "sum / count",
    Stat.STDDEV: _STDDEV.format(n="count", sum="sum", squares="squares"),
}
# The columns of a rollup that a statistic needs, and what they are of a single reading.
_PARTS = {
    Stat.SUM: ("sum",),
    Stat.AVG: ("sum",),
    Stat.MIN: ("min",),
    Stat.MAX: ("max",),
    Stat.FIRST: ("first", "first_ts", "first_id"),
    Stat.LAST: ("last", "last_ts", "last_id"),
    Stat.STDDEV: ("sum", "squares"),
}
_OF_READING = {
    "squares": "value * value",
    "first_ts": "ts",
    "first_id": "event_id",
    "last_ts": "ts",
    "last_id": "event_id",
}

_FILLED = {
    Fill.NULL: "{stat}",
    Fill.PREVIOUS: "first_value({stat}) over before",
    # By weights. Without a neighbour on either side its columns are those of the first empty buckets.
    Fill.LINEAR: """coalesce({stat}, case when before > 0 and after > 0 then
        (first_value({stat}) over before * extract(epoch from first_value(at) over after - at)
         + first_value({stat}) over after * extract(epoch from at - first_value(at) over before))
        / nullif(extract(epoch from first_value(at) over after - first_value(at) over before), 0) end)""",
}

# What was stored is printed as it is; what was reckoned is rounded to a double.
_STORED = {Stat.MIN, Stat.MAX, Stat.FIRST, Stat.LAST}


class Source(Enum):
    """Where the readings of an answer come from."""

    EVENTS = auto()
    ROLLUPS = auto()  # Right only if no hour is marked; the answer tells.
    ROLLUPS_AND_EVENTS = auto()


def statement(question: AggregateQuery, source: Source, rows_max: int) -> str:
    """SQL for the arguments $1 to $9 and the source's own."""
    asked = [stat for stat in question.stats if stat is not Stat.COUNT]
    if source is Source.EVENTS:
        buckets = _of_events(question, asked)
    else:
        buckets = _of_rollups(question, asked, patched=source is Source.ROLLUPS_AND_EVENTS)
    return str(
        queries.answer.format(
            buckets=buckets,
            rows=_filled(question, asked, rows_max),
            members=" || ".join(_members(question)),
            rows_max=rows_max,
            marked=queries.marked if source is Source.ROLLUPS else "false",
        )
    )


def _of_events(question: AggregateQuery, asked: Sequence[Stat]) -> str:
    return str(
        queries.from_events.format(
            bucket=queries.bucket.format(at="ts"),
            who=_WHO[question.group_by],
            stats=_columns(question, asked, _OF_READINGS),
            joins=_joins(question),
        )
    )


def _of_rollups(question: AggregateQuery, asked: Sequence[Stat], *, patched: bool) -> str:
    """`patched`: with the hours that must be read from events though others around them need not."""
    one_device_each = question.group_by is GroupBy.DEVICE or len(question.device_ids) == 1
    hourly = question.buckets == HOURLY and one_device_each
    parts = list(dict.fromkeys(part for stat in asked for part in _PARTS[stat]))
    joins = _joins(question)
    rollups = queries.rollups.format(
        hour_joins=joins if hourly else "",
        but_raw_hours=queries.but_raw_hours if patched else "",
    )
    template = queries.from_hours if hourly else queries.from_rollups
    return str(
        template.format(
            raw_hours=queries.raw_hours if patched else "",
            rollups=rollups,
            rest=queries.rest.format(of_raw_hours=queries.of_raw_hours if patched else ""),
            bucket=queries.bucket.format(at="ts" if hourly else "at"),
            who=_WHO[question.group_by],
            stats=_columns(question, asked, _OF_READINGS if hourly else _OF_PARTS),
            of_hour=_columns(question, asked, _OF_HOUR),
            of_rollup="".join(f", {part}" for part in parts),
            of_reading="".join(f", {_OF_READING.get(part, 'value')}" for part in parts),
            joins=joins,
        )
    )


def _columns(
    question: AggregateQuery, asked: Sequence[Stat], expressions: Mapping[Stat, str]
) -> str:
    columns = "".join(f", {expressions[stat]} as {stat}" for stat in asked)
    return columns.format(device=", device_id" if _ties(question) else "")


def _filled(question: AggregateQuery, asked: Sequence[Stat], rows_max: int) -> str:
    """One group more than `rows_max` has room for is enough to see that there are too many."""
    if question.fill is Fill.NONE:
        return "select * from bucket"
    expression = _FILLED[question.fill]
    groups_max = rows_max // question.buckets.number(question.start, question.end) + 1
    groups = queries.one_group if question.group_by is None else queries.groups
    return str(
        queries.fill.format(
            stats="".join(f", {expression.format(stat=stat)} as {stat}" for stat in asked),
            columns="".join(f", max({stat}) as {stat}" for stat in asked),
            names="".join(f", {_shown(stat)}" for stat in asked),
            nulls=", null" * len(asked),
            groups=groups.format(groups_max=groups_max),
        )
    )


def _shown(stat: Stat) -> str:
    """What lies beyond a double is null for its neighbours, too."""
    return (
        stat
        if stat in _STORED
        else f"case when abs({stat}) <= {DOUBLE_MAX!r} then {stat} end as {stat}"
    )


def _joins(question: AggregateQuery) -> str:
    joins = []
    if question.group_by is GroupBy.DEVICE or _ties(question):
        joins.append("join device using (device_no)")
    if question.group_by is GroupBy.TAG:
        joins.append("cross join lateral (select distinct tag from unnest(reading.tags) tag) tag")
    return " ".join(joins)


def _ties(question: AggregateQuery) -> bool:
    """Whether devices must be told apart that have events at one instant."""
    ordered = not {Stat.FIRST, Stat.LAST}.isdisjoint(question.stats)
    return ordered and len(question.device_ids) != 1


def _members(question: AggregateQuery) -> Iterator[str]:
    """What follows the bucket in a row of the answer, as pieces of text."""
    if question.group_by:
        yield f"',\"{_MEMBER[question.group_by]}\":' || to_json(who)"
    for stat in question.stats:
        if stat is Stat.COUNT:
            yield f"',\"{stat}\":' || {stat}"
        elif stat in _STORED and question.fill is not Fill.LINEAR:
            yield f"',\"{stat}\":' || coalesce(trim_scale({stat})::text, 'null')"
        else:
            yield f"',\"{stat}\":' || json_number({stat})"
