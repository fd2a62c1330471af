"""The cases of the query benchmark: a request to the product, and the query of the one-table baseline."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks import baseline
from benchmarks.baseline import BaselineQuery
from benchmarks.load.year import DAY, Year

DEVICE, METRIC, TAG = "d0", "soc_percent", "room:1"


@dataclass(frozen=True)
class QueryCase:
    name: str
    path: str
    parameters: dict[str, Any]
    baseline: BaselineQuery
    target_ms: float | None = None


def query_cases(year: Year) -> Iterator[QueryCase]:
    """The cases, with the targets that were set."""
    yield _of_device(f"1 device, {year.days} days, 1 h", year, year.days, "hour", target_ms=15)
    month = min(year.days, 30)
    yield _of_device(f"1 device, {month} days, 1 m", year, month, "minute", target_ms=120)
    yield _of_fleet(f"{year.fleet:,} devices, 24 h, 1 h", year, target_ms=60)
    yield _of_fleet(f"{year.fleet:,} devices, 24 h, 1 h, group_by=device", year, by_device=True)
    yield _of_device(
        f"1 device, {year.days} days, 1 d in Europe/Berlin",
        year,
        year.days,
        "day",
        zone="Europe/Berlin",
    )
    week = min(year.days, 7)
    yield _of_device(f"1 device, {week} days, 1 h, p95", year, week, "hour", p95=True)
    yield _summary(year)
    yield QueryCase(
        "latest values of a device",
        f"/v1/devices/{DEVICE}/latest",
        {},
        BaselineQuery(baseline.LATEST, (DEVICE,), baseline.as_latest),
        target_ms=3,
    )
    yield QueryCase(
        f"latest values of {year.fleet:,} devices",
        "/v1/latest",
        {"limit": year.fleet},
        BaselineQuery(baseline.LATEST_OF_ALL, (), baseline.as_latest_of_all),
        target_ms=60,
    )
    yield QueryCase(
        "newest 100 events of a device",
        f"/v1/devices/{DEVICE}/events",
        {"limit": 100},
        BaselineQuery(baseline.NEWEST_OF_DEVICE, (DEVICE,), baseline.as_events),
        target_ms=3,
    )
    yield QueryCase(
        "newest 100 events of a tag",
        "/v1/search",
        {"tag": TAG, "limit": 100},
        BaselineQuery(baseline.NEWEST_OF_TAG, (TAG,), baseline.as_events),
        target_ms=20,
    )


def _of_device(
    name: str,
    year: Year,
    days: int,
    unit: str,
    *,
    zone: str = "UTC",
    p95: bool = False,
    target_ms: float | None = None,
) -> QueryCase:
    sql = baseline.aggregate(unit, zone, "device_id = $3", baseline.P95 if p95 else baseline.USUAL)
    parameters = _range(year, timedelta(days=days), unit) | {"device_id": DEVICE, "tz": zone}
    if p95:
        parameters["stats"] = "p95"
    query = BaselineQuery(sql, (year.end - timedelta(days=days), year.end, DEVICE))
    return QueryCase(name, "/v1/metrics/aggregate", parameters, query, target_ms)


def _of_fleet(
    name: str, year: Year, *, by_device: bool = False, target_ms: float | None = None
) -> QueryCase:
    group = "device_id" if by_device else None
    sql = baseline.aggregate("hour", "UTC", "true", baseline.USUAL, group)
    parameters = _range(year, DAY, "hour") | ({"group_by": "device"} if by_device else {})
    query = BaselineQuery(sql, (year.last_day, year.end))
    return QueryCase(name, "/v1/metrics/aggregate", parameters, query, target_ms)


def _range(year: Year, length: timedelta, unit: str) -> dict[str, Any]:
    return {
        "metric": METRIC,
        "from_time": (year.end - length).isoformat(),
        "to_time": year.end.isoformat(),
        "interval": f"1{unit[0]}",
    }


def _summary(year: Year) -> QueryCase:
    """A whole day in UTC, in which the device reported every minute."""
    day = (year.end - DAY).replace(hour=0)
    return QueryCase(
        "a day's summary of a device",
        f"/devices/{DEVICE}/summary",
        {"date": f"{day - DAY:%Y-%m-%d}"},
        BaselineQuery(baseline.SUMMARY, (day - DAY, day, DEVICE), baseline.as_summary),
    )
