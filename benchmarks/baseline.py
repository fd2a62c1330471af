"""The one-table baseline: an ordinary table with jsonb, one index on device and time, and SQL.

The benchmark runs these queries in its own process over one kept connection: it fetches rows, makes dicts of
them and writes them with json.dumps, as an endpoint does. It leaves out the cost of HTTP and a framework, in
favour of the baseline.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

TABLE = """
    create table baseline_event (event_id text primary key, device_id text not null, ts timestamptz not null,
                                 metrics jsonb not null, tags text[] not null);
    create index on baseline_event (device_id, ts)
"""
_VALUE = "(metrics->>'soc_percent')::float"
USUAL = f"count(*), sum({_VALUE}), avg({_VALUE}), min({_VALUE}), max({_VALUE})"
P95 = f"percentile_cont(0.95) within group (order by {_VALUE}) as p95"
_EVENTS = 'select event_id, device_id, ts as "timestamp", metrics, tags from baseline_event'
LATEST = f"{_EVENTS} where device_id = $1 order by ts desc limit 1"
LATEST_OF_ALL = """
    select device_id, newest.metrics from device cross join lateral (
        select metrics from baseline_event where device_id = device.device_id collate "default"
        order by ts desc limit 1
    ) newest
    order by device_id
"""
NEWEST_OF_DEVICE = f"{_EVENTS} where device_id = $1 order by ts desc, event_id desc limit 100"
NEWEST_OF_TAG = f"{_EVENTS} where $1 = any(tags) order by ts desc, event_id desc limit 100"
SUMMARY = """
    select key as metric, count(*), min(value::float), max(value::float), avg(value::float)
    from baseline_event cross join jsonb_each_text(metrics)
    where ts >= $1 and ts < $2 and device_id = $3 group by key
"""


def aggregate(unit: str, zone: str, where: str, stats: str, group: str | None = None) -> str:
    """Buckets of date_trunc; $1 and $2 are the half-open range."""
    columns, order = ("", "1") if group is None else (f", {group}", "1, 2")
    return f"""
        select date_trunc('{unit}', ts, '{zone}') as bucket{columns}, {stats} from baseline_event
        where ts >= $1 and ts < $2 and {where} group by {order} order by {order}
    """


Rows = list[dict[str, Any]]


def as_rows(rows: Rows) -> Any:
    return rows


def as_latest(rows: Rows) -> Any:
    values = json.loads(rows[0]["metrics"])
    return {"metrics": {name: {"value": value} for name, value in values.items()}}


def as_latest_of_all(rows: Rows) -> Any:
    return [{"device_id": row["device_id"], **as_latest([row])} for row in rows]


def as_events(rows: Rows) -> Any:
    return [{**row, "metrics": json.loads(row["metrics"])} for row in rows]


def as_summary(rows: Rows) -> Any:
    return {"metrics": {row.pop("metric"): row for row in rows}}


@dataclass(frozen=True)
class BaselineQuery:
    """`shape` turns the rows into a response in the form of the product's responses."""

    sql: str
    arguments: Sequence[object]
    shape: Callable[[Rows], Any] = as_rows

    async def fetch(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bytes:
        rows = await connection.fetch(self.sql, *self.arguments)
        return json.dumps(
            self.shape([dict(row) for row in rows]), default=datetime.isoformat
        ).encode()
