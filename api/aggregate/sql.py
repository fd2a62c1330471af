"""The statement that answers a query, assembled from the pieces in aggregates.sql. Pure.

It contains no text of the caller: the query chooses pieces, and values are parameters. As an example, this is
the statement for count and avg of one device, by day and from rollups:

    with asked as (select $7::text[], $8::numeric[]), bucket as (
        select $6[width_bucket(at, $6)] as at, '' as group_key,
               sum(count)::bigint as count, sum(sum) / sum(count) as avg
        from (
            select device_no, hour as at, count, sum from rollup
            where metric = $1 and hour >= $9 and hour < $10 and device_no = any($2)
            union all
            select device_no, ts, 1, value from (
                select device_no, event_id, ts, (metrics -> $1)::numeric as value from event
                where ts >= $3 and ts < $9 and metrics ? $1 and device_no = any($2)
                union all
                select device_no, event_id, ts, (metrics -> $1)::numeric from event
                where ts >= $10 and ts < $4 and metrics ? $1 and device_no = any($2)
            ) reading
        ) part
        group by 1, 2
    )
    select count(*) as rows, (select floor from rollup_state) as floor,
           (select exists (select from rollup_mark where hour >= $9 and ...)) as marked,
           string_agg(timestamptz_send(at), '') as at, string_agg(count::text, ',') as count,
           string_agg(coalesce(trim_scale(avg)::text, 'null'), ',') as avg
    from (
        select * from (select * from bucket found) shown_bucket
        order by at, group_key
        limit 50000 + 1
    ) line
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, auto

from api.aggregate.conditions import ValueCondition
from api.aggregate.expressions import (
    FILLED,
    FROM_HOUR,
    FROM_PARTS,
    FROM_READINGS,
    READING_COLUMNS,
    ROLLUP_COLUMNS,
    STORED,
)
from api.aggregate.query import HOURLY, AggregateQuery, Fill, Format, GroupBy
from api.aggregate.stats import Stat
from schema.queries import load_queries
from schema.rule import Op

queries = load_queries("api.aggregate", "aggregates.sql")

DOUBLE_MAX = sys.float_info.max

# The names of groups, as members of a row and as columns; all of them are in the order of bytes.
_MEMBER = {GroupBy.DEVICE: "device_id", GroupBy.TAG: "tag", GroupBy.DEVICE_TAG: "device_tag"}
METRIC, ONLY_GROUP = "metric", "group_key"
_KEY = {
    METRIC: "metric",
    "device_id": "device_id",
    "tag": 'tag collate "C" as tag',
    "device_tag": 'device_tag collate "C" as device_tag',
    ONLY_GROUP: f"'' as {ONLY_GROUP}",
}
_TAGS = {GroupBy.TAG: "reading.tags", GroupBy.DEVICE_TAG: "device.tags"}
_OPERATOR = {Op.EQ: "=", Op.NE: "<>"}


class Source(Enum):
    """The tables that a response is computed from."""

    EVENTS = auto()
    EVENTS_IN_ORDER = auto()  # The same, for one series of which a bucket has few events.
    ROLLUPS = auto()  # Valid only if the row says that no hour is marked.
    ROLLUPS_AND_EVENTS = auto()


def statement(query: AggregateQuery, source: Source, rows_max: int) -> str:
    """The SQL for the arguments $1 to $8 and those of the source (api/aggregate/store.py)."""
    stats = [stat for stat in query.stats if stat is not Stat.COUNT]
    names = group_names(query)
    order = ["at", *names] if query.format is Format.ROWS else [*names, "at"]
    shown = queries.columns.format(
        columns="".join(f", {column}" for column in _shown(query, stats)),
        rows=_filled(query, stats, rows_max),
        rows_max=rows_max,
        order=", ".join(order),
        marked=queries.marked if source is Source.ROLLUPS else "false",
    )
    return str(queries.response.format(buckets=_buckets(query, stats, source), shown=shown))


def groups_statement(query: AggregateQuery, source: Source) -> str:
    """The SQL that counts the groups of a response, for the same arguments."""
    stats = [stat for stat in query.stats if stat is not Stat.COUNT]
    shown = queries.number_of_groups.format(names=_names(query), found=_found(query))
    return str(queries.response.format(buckets=_buckets(query, stats, source), shown=shown))


def condition_texts(query: AggregateQuery) -> list[str]:
    """$7: the metrics of `where`, then the prefixes of the tags by which rows are grouped."""
    return [each.name for each in query.where] + [
        query.prefixes.get(group, "") for group in query.group_by
    ]


def condition_numbers(query: AggregateQuery) -> list[Decimal]:
    """$8: those of `where`, then those of `having`."""
    return [each.number for each in (*query.where, *query.having)]


def _buckets(query: AggregateQuery, stats: Sequence[Stat], source: Source) -> str:
    if source in {Source.EVENTS, Source.EVENTS_IN_ORDER}:
        return _buckets_from_events(query, stats, in_order=source is Source.EVENTS_IN_ORDER)
    return _buckets_from_rollups(query, stats, with_raw_hours=source is Source.ROLLUPS_AND_EVENTS)


def _buckets_from_events(query: AggregateQuery, stats: Sequence[Stat], *, in_order: bool) -> str:
    return str(
        queries.from_events.format(
            bucket=queries.bucket.format(at="ts"),
            in_order=queries.in_order if in_order else "",
            stats=_columns(query, stats, FROM_READINGS),
            joins=_joins(query),
            where=_where(query.where),
            **_keys(query),
            **_metrics(query),
        )
    )


def _buckets_from_rollups(
    query: AggregateQuery, stats: Sequence[Stat], *, with_raw_hours: bool
) -> str:
    """`with_raw_hours`: some hours between the rollups must be read from events."""
    one_device_each = GroupBy.DEVICE in query.group_by or len(query.device_ids) == 1
    hourly = query.buckets == HOURLY and one_device_each
    parts = list(dict.fromkeys(part for stat in stats for part in ROLLUP_COLUMNS[stat]))
    joins, metrics = _joins(query), _metrics(query)
    rollups = queries.rollups.format(
        hour_joins=joins if hourly else "",
        except_raw_hours=queries.except_raw_hours if with_raw_hours else "",
        **metrics,
    )
    events = queries.events_beside_rollups.format(
        raw_hour_events=queries.raw_hour_events.format(**metrics) if with_raw_hours else "",
        **metrics,
    )
    template = queries.from_hours if hourly else queries.from_rollups
    return str(
        template.format(
            raw_hours=queries.raw_hours.format(**metrics) if with_raw_hours else "",
            rollups=rollups,
            events=events,
            bucket=queries.bucket.format(at="ts" if hourly else "at"),
            stats=_columns(query, stats, FROM_READINGS if hourly else FROM_PARTS),
            hour_stats=_columns(query, stats, FROM_HOUR),
            rollup_columns="".join(f", {part}" for part in parts),
            reading_columns="".join(f", {READING_COLUMNS.get(part, 'value')}" for part in parts),
            joins=joins,
            **_keys(query),
            **metrics,
        )
    )


def _metrics(query: AggregateQuery) -> dict[str, str]:
    """How the metrics are read. For a single one, the statement needs no join."""
    if len(query.metrics) == 1:
        return {
            "metric": "$1", "metrics": "", "each_metric": "", "of_metric": "",
            "metric_is": "metric = $1",
        }  # fmt: skip
    return {
        "metric": "metric",
        "metrics": "cross join unnest($1::text[]) metric",
        "each_metric": ', metric collate "C" as metric',
        "of_metric": ", metric",
        "metric_is": "metric = any($1::text[])",
    }


def group_names(query: AggregateQuery) -> list[str]:
    """The members of a row that name its group."""
    metric = [METRIC] if len(query.metrics) > 1 else []
    return metric + [_MEMBER[group] for group in query.group_by]


def _names(query: AggregateQuery) -> str:
    return ", ".join(group_names(query) or [ONLY_GROUP])


def _keys(query: AggregateQuery) -> dict[str, str]:
    names = group_names(query) or [ONLY_GROUP]
    return {
        "keys": ", ".join(_KEY[name] for name in names),
        "positions": ", ".join(str(place + 1) for place in range(len(names) + 1)),
    }


def _where(conditions: Sequence[ValueCondition]) -> str:
    return "".join(
        f" and (metrics -> ($7::text[])[{place}])::numeric {_operator(each)} ($8::numeric[])[{place}]"
        for place, each in enumerate(conditions, 1)
    )


def _found(query: AggregateQuery) -> str:
    """The rows that satisfy `having`, which compares what is shown."""
    if not query.having:
        return "bucket"
    conditions = " and ".join(
        f"{'count' if each.name == Stat.COUNT else f'to_double({each.name})'} {_operator(each)}"
        f" ($8::numeric[])[{place}]::float8"
        for place, each in enumerate(query.having, len(query.where) + 1)
    )
    return str(queries.having.format(conditions=conditions))


def _operator(condition: ValueCondition) -> str:
    return _OPERATOR.get(condition.op, str(condition.op))


def _columns(query: AggregateQuery, stats: Sequence[Stat], expressions: Mapping[Stat, str]) -> str:
    columns = "".join(f", {expressions[stat]} as {stat}" for stat in stats)
    return columns.format(device=", device_id" if _may_tie(query) else "")


def _filled(query: AggregateQuery, stats: Sequence[Stat], rows_max: int) -> str:
    """One group more than fits into `rows_max` is enough to detect that there are too many."""
    found, names = _found(query), _names(query)
    if query.fill is Fill.NONE:
        return str(queries.unfilled.format(found=found))
    expression = FILLED[query.fill]
    groups_max = rows_max // query.buckets.number(query.start, query.end) + 1
    return str(
        queries.fill.format(
            found=found,
            names=names,
            stats="".join(f", {expression.format(stat=stat)} as {stat}" for stat in stats),
            columns="".join(f", max({stat}) as {stat}" for stat in stats),
            values="".join(f", {_within_double(stat)}" for stat in stats),
            nulls=", null" * len(stats),
            groups=_groups(query).format(names=names, found=found, groups_max=groups_max),
        )
    )


def _groups(query: AggregateQuery) -> str:
    """Without `group_by`, the groups exist with and without events."""
    if query.group_by:
        return str(queries.groups)
    return str(queries.group_per_metric if len(query.metrics) > 1 else queries.one_group)


def _within_double(stat: Stat) -> str:
    """A value beyond a double is null, also as a neighbour of empty buckets."""
    return (
        stat
        if stat in STORED
        else f"case when abs({stat}) <= {DOUBLE_MAX!r} then {stat} end as {stat}"
    )


def _joins(query: AggregateQuery) -> str:
    joins = []
    if not {GroupBy.DEVICE, GroupBy.DEVICE_TAG}.isdisjoint(query.group_by) or _may_tie(query):
        joins.append("join device using (device_no)")
    for place, group in enumerate(query.group_by, len(query.where) + 1):
        if group in _TAGS:
            piece = queries.each_tag_with_prefix if group in query.prefixes else queries.each_tag
            joins.append(piece.format(tag=group, tags=_TAGS[group], place=place))
    return " ".join(joins)


def _may_tie(query: AggregateQuery) -> bool:
    """Whether first and last may depend on the order of devices that have events at the same instant."""
    ordered = not {Stat.FIRST, Stat.LAST}.isdisjoint(query.stats)
    return ordered and len(query.device_ids) != 1


def shared_stat(query: AggregateQuery) -> Stat | None:
    """The statistic whose value, if a bucket has one reading, is that of all others but stddev."""
    return next((stat for stat in query.stats if stat not in {Stat.COUNT, Stat.STDDEV}), None)


def _shown(query: AggregateQuery, stats: Sequence[Stat]) -> Iterator[str]:
    """The columns of groups and statistics, as JSON and as decimals."""
    for name in group_names(query):
        yield f"string_agg(to_json({name})::text, ',') as {name}"
    shared = shared_stat(query)
    for stat in stats:
        value = f"coalesce(trim_scale({stat})::text, 'null')"
        if stat not in {shared, Stat.STDDEV}:
            value = f"case when count <> 1 then {value} end"
        yield f"string_agg({value}, ',') as {stat}"
