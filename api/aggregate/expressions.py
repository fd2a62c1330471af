"""The statistics as SQL: from readings, from rollups, and for buckets without events. Pure."""

from api.aggregate.query import Fill
from api.aggregate.stats import PERCENTILES, Stat

_STDDEV = "case when {n} > 1 then sqrt(({n} * {squares} - {sum} * {sum}) / ({n} * ({n} - 1.0))) end"

# A statistic as computed from readings, from parts (rollups and single readings), and from one rollup.
FROM_READINGS = {
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
FROM_PARTS = {
    Stat.SUM: "sum(sum)",
    Stat.AVG: "sum(sum) / sum(count)",
    Stat.MIN: "min(min)",
    Stat.MAX: "max(max)",
    Stat.FIRST: "(array_agg(first order by first_ts, first_id{device}))[1]",
    Stat.LAST: "(array_agg(last order by last_ts, last_id{device}))[count(*)]",
    Stat.STDDEV: _STDDEV.format(n="sum(count)", sum="sum(sum)", squares="sum(squares)"),
}
FROM_HOUR = {
    **{stat: str(stat) for stat in (Stat.SUM, Stat.MIN, Stat.MAX, Stat.FIRST, Stat.LAST)},
    Stat.AVG: "sum / count",
    Stat.STDDEV: _STDDEV.format(n="count", sum="sum", squares="squares"),
}
# The columns of a rollup that a statistic needs, and their values for a single reading.
ROLLUP_COLUMNS = {
    Stat.SUM: ("sum",),
    Stat.AVG: ("sum",),
    Stat.MIN: ("min",),
    Stat.MAX: ("max",),
    Stat.FIRST: ("first", "first_ts", "first_id"),
    Stat.LAST: ("last", "last_ts", "last_id"),
    Stat.STDDEV: ("sum", "squares"),
}
READING_COLUMNS = {
    "squares": "value * value",
    "first_ts": "ts",
    "first_id": "event_id",
    "last_ts": "ts",
    "last_id": "event_id",
}

FILLED = {
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
STORED = {Stat.MIN, Stat.MAX, Stat.FIRST, Stat.LAST}
