"""The statement that answers a query, assembled from the pieces in aggregates.sql. Pure.

It contains no text of the caller: the query chooses pieces, and values are parameters. As an example, this is
the statement for count and avg of one device, by day and from rollups, without the zone's offset ($7 to $9):

    with bucket as (
        select $6[width_bucket(at, $6)] as at, '' as group_key,
               sum(count)::bigint as count, sum(sum) / sum(count) as avg
        from (
            select device_no, hour as at, count, sum from rollup
            where metric = $1 and hour >= $10 and hour < $11 and device_no = any($2)
            union all
            select device_no, ts, 1, value from (
                select device_no, event_id, ts, (metrics -> $1)::numeric as value from event
                where ts >= $3 and ts < $10 and metrics ? $1 and device_no = any($2)
                union all
                select device_no, event_id, ts, (metrics -> $1)::numeric from event
                where ts >= $11 and ts < $4 and metrics ? $1 and device_no = any($2)
            ) reading
        ) part
        group by 1, 2
    )
    select count(*) as rows, '[' || coalesce(string_agg(shown, ','), '') || ']' as body,
           (select floor from rollup_state) as floor,
           (select exists (select from rollup_mark where hour >= $10 and ...)) as marked
    from (
        select '{"bucket":"' || to_char(at, ...)
               || '","count":' || count || ',"avg":' || json_number(avg) || '}' as shown
        from (select * from bucket) shown_bucket
        order by at, group_key
        limit 50000 + 1
    ) line
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto

from api.aggregate.buckets import HOUR, Fixed
from api.aggregate.query import PERCENTILES, AggregateQuery, Fill, GroupBy, Stat
from schema.queries import load_queries

queries = load_queries("api.aggregate", "aggregates.sql")

DOUBLE_MAX = sys.float_info.max

_GROUP_KEY = {None: "''", GroupBy.DEVICE: "device_id", GroupBy.TAG: 'tag collate "C"'}
_MEMBER = {GroupBy.DEVICE: "device_id", GroupBy.TAG: "tag"}
HOURLY = Fixed(HOUR)
_STDDEV = "case when {n} > 1 then sqrt(({n} * {squares} - {sum} * {sum}) / ({n} * ({n} - 1.0))) end"

# A statistic as computed from readings, from parts (rollups and single readings), and from one rollup.
_FROM_READINGS = {
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
_FROM_PARTS = {
    Stat.SUM: "sum(sum)",
    Stat.AVG: "sum(sum) / sum(count)",
    Stat.MIN: "min(min)",
    Stat.MAX: "max(max)",
    Stat.FIRST: "(array_agg(first order by first_ts, first_id{device}))[1]",
    Stat.LAST: "(array_agg(last order by last_ts, last_id{device}))[count(*)]",
    Stat.STDDEV: _STDDEV.format(n="sum(count)", sum="sum(sum)", squares="sum(squares)"),
}
_FROM_HOUR = {
    **{stat: str(stat) for stat in (Stat.SUM, Stat.MIN, Stat.MAX, Stat.FIRST, Stat.LAST)},
    Stat.AVG: "sum / count",
    Stat.STDDEV: _STDDEV.format(n="count", sum="sum", squares="squares"),
}
# The columns of a rollup that a statistic needs, and their values for a single reading.
_ROLLUP_COLUMNS = {
    Stat.SUM: ("sum",),
    Stat.AVG: ("sum",),
    Stat.MIN: ("min",),
    Stat.MAX: ("max",),
    Stat.FIRST: ("first", "first_ts", "first_id"),
    Stat.LAST: ("last", "last_ts", "last_id"),
    Stat.STDDEV: ("sum", "squares"),
}
_READING_COLUMNS = {
    "squares": "value * value",
    "first_ts": "ts",
    "first_id": "event_id",
    "last_ts": "ts",
    "last_id": "event_id",
}

_FILLED = {
    Fill.NULL: "{stat}",
    Fill.PREVIOUS: "first_value({stat}) over before",
    # Interpolated by distance. A bucket without a neighbour on one side shares its window with other empty
    # buckets, hence the check of `before` and `after`.
    Fill.LINEAR: """coalesce({stat}, case when before > 0 and after > 0 then
        (first_value({stat}) over before * extract(epoch from first_value(at) over after - at)
         + first_value({stat}) over after * extract(epoch from at - first_value(at) over before))
        / nullif(extract(epoch from first_value(at) over after - first_value(at) over before), 0) end)""",
}

# Stored values are doubles; computed ones may lie beyond them.
_STORED = {Stat.MIN, Stat.MAX, Stat.FIRST, Stat.LAST}


class Source(Enum):
    """The tables that a response is computed from."""

    EVENTS = auto()
    ROLLUPS = auto()  # Valid only if the row says that no hour is marked.
    ROLLUPS_AND_EVENTS = auto()


def statement(query: AggregateQuery, source: Source, rows_max: int) -> str:
    """The SQL for the arguments $1 to $9 and those of the source (api/aggregate/store.py)."""
    stats = [stat for stat in query.stats if stat is not Stat.COUNT]
    if source is Source.EVENTS:
        buckets = _buckets_from_events(query, stats)
    else:
        buckets = _buckets_from_rollups(
            query, stats, with_raw_hours=source is Source.ROLLUPS_AND_EVENTS
        )
    return str(
        queries.answer.format(
            buckets=buckets,
            rows=_filled(query, stats, rows_max),
            members=" || ".join(_members(query)),
            rows_max=rows_max,
            marked=queries.marked if source is Source.ROLLUPS else "false",
        )
    )


def _buckets_from_events(query: AggregateQuery, stats: Sequence[Stat]) -> str:
    return str(
        queries.from_events.format(
            bucket=queries.bucket.format(at="ts"),
            group_key=_GROUP_KEY[query.group_by],
            stats=_columns(query, stats, _FROM_READINGS),
            joins=_joins(query),
        )
    )


def _buckets_from_rollups(
    query: AggregateQuery, stats: Sequence[Stat], *, with_raw_hours: bool
) -> str:
    """`with_raw_hours`: some hours between the rollups must be read from events."""
    one_device_each = query.group_by is GroupBy.DEVICE or len(query.device_ids) == 1
    hourly = query.buckets == HOURLY and one_device_each
    parts = list(dict.fromkeys(part for stat in stats for part in _ROLLUP_COLUMNS[stat]))
    joins = _joins(query)
    rollups = queries.rollups.format(
        hour_joins=joins if hourly else "",
        except_raw_hours=queries.except_raw_hours if with_raw_hours else "",
    )
    template = queries.from_hours if hourly else queries.from_rollups
    return str(
        template.format(
            raw_hours=queries.raw_hours if with_raw_hours else "",
            rollups=rollups,
            events=queries.events_beside_rollups.format(
                raw_hour_events=queries.raw_hour_events if with_raw_hours else ""
            ),
            bucket=queries.bucket.format(at="ts" if hourly else "at"),
            group_key=_GROUP_KEY[query.group_by],
            stats=_columns(query, stats, _FROM_READINGS if hourly else _FROM_PARTS),
            hour_stats=_columns(query, stats, _FROM_HOUR),
            rollup_columns="".join(f", {part}" for part in parts),
            reading_columns="".join(f", {_READING_COLUMNS.get(part, 'value')}" for part in parts),
            joins=joins,
        )
    )


def _columns(query: AggregateQuery, stats: Sequence[Stat], expressions: Mapping[Stat, str]) -> str:
    columns = "".join(f", {expressions[stat]} as {stat}" for stat in stats)
    return columns.format(device=", device_id" if _may_tie(query) else "")


def _filled(query: AggregateQuery, stats: Sequence[Stat], rows_max: int) -> str:
    """One group more than fits into `rows_max` is enough to detect that there are too many."""
    if query.fill is Fill.NONE:
        return "select * from bucket"
    expression = _FILLED[query.fill]
    groups_max = rows_max // query.buckets.number(query.start, query.end) + 1
    groups = queries.one_group if query.group_by is None else queries.groups
    return str(
        queries.fill.format(
            stats="".join(f", {expression.format(stat=stat)} as {stat}" for stat in stats),
            columns="".join(f", max({stat}) as {stat}" for stat in stats),
            names="".join(f", {_within_double(stat)}" for stat in stats),
            nulls=", null" * len(stats),
            groups=groups.format(groups_max=groups_max),
        )
    )


def _within_double(stat: Stat) -> str:
    """A value beyond a double is null, also as a neighbour of empty buckets."""
    return (
        stat
        if stat in _STORED
        else f"case when abs({stat}) <= {DOUBLE_MAX!r} then {stat} end as {stat}"
    )


def _joins(query: AggregateQuery) -> str:
    joins = []
    if query.group_by is GroupBy.DEVICE or _may_tie(query):
        joins.append("join device using (device_no)")
    if query.group_by is GroupBy.TAG:
        joins.append("cross join lateral (select distinct tag from unnest(reading.tags) tag) tag")
    return " ".join(joins)


def _may_tie(query: AggregateQuery) -> bool:
    """Whether first and last may depend on the order of devices that have events at the same instant."""
    ordered = not {Stat.FIRST, Stat.LAST}.isdisjoint(query.stats)
    return ordered and len(query.device_ids) != 1


def _members(query: AggregateQuery) -> Iterator[str]:
    """The members after the bucket in a row of the response, as SQL for pieces of JSON text."""
    if query.group_by:
        yield f"',\"{_MEMBER[query.group_by]}\":' || to_json(group_key)"
    for stat in query.stats:
        if stat is Stat.COUNT:
            yield f"',\"{stat}\":' || {stat}"
        else:
            yield f"',\"{stat}\":' || json_number({stat})"
