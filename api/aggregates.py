"""Aggregates over time buckets."""

import re
from datetime import timedelta
from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.pages import json_text
from api.params import RequiredTime, instant
from api.store import AGGREGATE_ROWS_MAX, QueryStore
from schema.errors import InvalidRequest

DEVICES_MAX = 1000
_INTERVAL = re.compile(r"([1-9][0-9]{0,8})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@get(
    "/v1/metrics/aggregate",
    summary="Count, sum, average, minimum and maximum of a metric per bucket",
    description=f"Only buckets that hold events; at most {AGGREGATE_ROWS_MAX:,} rows.",
    tags=["Questions"],
)
async def aggregate(
    store: NamedDependency[QueryStore],
    metric: Annotated[str, QueryParameter(min_length=1, max_length=128)],
    from_time: RequiredTime,
    to_time: RequiredTime,
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="Repeat it; absent: the fleet"),
    ] = None,
    interval: Annotated[
        str, QueryParameter(description="Length of a bucket from the Unix epoch: 30s, 5m, 1h")
    ] = "1m",
) -> Response[bytes]:
    start, end = instant("from_time", from_time), instant("to_time", to_time)
    if start >= end:
        raise InvalidRequest("from_time must be before to_time.")
    if "\0" in metric:
        raise InvalidRequest("metric: without NUL.")
    devices = [name for name in device_id or () if "\0" not in name]
    if device_id and not devices:
        return json_text("[]")
    return json_text(await store.aggregate(metric, devices, start, end, fixed_interval(interval)))


def fixed_interval(text: str) -> timedelta:
    found = _INTERVAL.fullmatch(text)
    if found is None:
        raise InvalidRequest("interval: a number and s, m or h, for instance 30s, 5m or 1h.")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
