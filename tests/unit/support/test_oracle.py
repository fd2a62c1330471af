"""The oracle of the aggregates, compared with examples computed by hand."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import sqrt
from typing import Any

import pytest

from tests.support.oracle.buckets import (
    Buckets,
    TooManyRows,
    midnight,
)
from tests.support.oracle.comparison import (
    difference,
    shown_number,
)
from tests.support.oracle.oracle import aggregate, needs_raw_before, summary
from tests.support.oracle.query import STATS, AggregateQuery, Stored

START = datetime(2026, 2, 1, tzinfo=UTC)


def event(second: float, value: float, device_id: str = "a", tags: tuple[str, ...] = ()) -> Stored:
    at = START + timedelta(seconds=second)
    return Stored(device_id, f"e{second}", at, {"m": value}, tags)


def response(events: list[Stored], seconds: int = 60, **more: Any) -> list[dict[str, Any]]:
    """The rows, with buckets as seconds after the start and numbers as doubles."""
    query = AggregateQuery("m", START, START + timedelta(seconds=seconds), **more)
    rows = [
        {name: shown_number(value) for name, value in row.items()}
        for row in aggregate(events, query)
    ]
    return [row | {"bucket": (row["bucket"] - START).total_seconds()} for row in rows]


def test_every_stat_of_a_bucket() -> None:
    values = [4, 1, 3, 2]
    (row,) = response([event(n, value) for n, value in enumerate(values)], stats=STATS)
    assert row == {
        "bucket": 0, "count": 4, "sum": 10, "avg": 2.5, "min": 1, "max": 4, "first": 4, "last": 2,
        "stddev": pytest.approx(sqrt(5 / 3), rel=1e-15), "p50": 2.5, "p95": 3.85, "p99": 3.97,
    }  # fmt: skip


def test_a_value_is_the_decimal_that_it_is_written_as() -> None:
    (row,) = response([event(n, 0.1) for n in range(3)], stats=("sum", "avg", "stddev"))
    assert row == {"bucket": 0, "sum": 0.3, "avg": 0.1, "stddev": 0}


def test_one_value_has_no_deviation_and_a_sum_beyond_a_double_is_null() -> None:
    (row,) = response([event(0, 1)], stats=("stddev",))
    assert row["stddev"] is None
    (row,) = response([event(n, 1e308) for n in range(2)], stats=("sum", "avg", "stddev"))
    assert row == {"bucket": 0, "sum": None, "avg": 1e308, "stddev": 0}


def test_the_event_id_decides_between_events_of_one_instant_and_then_the_device() -> None:
    at = START
    events = [
        Stored("b", "é", at, {"m": 1}), Stored("a", "z", at, {"m": 2}),
        Stored("b", "Z", at, {"m": 3}), Stored("a", "Z", at, {"m": 4}),
    ]  # fmt: skip
    (row,) = response(events, stats=("first", "last"))
    assert row == {"bucket": 0, "first": 4, "last": 1}


def test_filters_and_groups() -> None:
    events = [
        event(1, 1, "b", ("x", "y", "x")), event(2, 2, "B", ("y",)), event(3, 4, "b"), event(61, 8),
    ]  # fmt: skip
    assert response(events, stats=("sum",)) == [{"bucket": 0, "sum": 7}]
    assert response(events, stats=("sum",), tags=("y", "x")) == [{"bucket": 0, "sum": 1}]
    assert response(events, stats=("sum",), tags=("y",), device_ids=("B", "c")) == [
        {"bucket": 0, "sum": 2}
    ]
    assert response(events, stats=("sum",), group_by="device") == [
        {"bucket": 0, "device_id": "B", "sum": 2},
        {"bucket": 0, "device_id": "b", "sum": 5},
    ]
    assert response(events, stats=("sum",), group_by="tag") == [
        {"bucket": 0, "tag": "x", "sum": 1},
        {"bucket": 0, "tag": "y", "sum": 3},
    ]


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("null", [None, 10, None, None, 40, None]),
        ("previous", [None, 10, 10, 10, 40, 40]),
        ("linear", [None, 10, 20, 30, 40, None]),
    ],
)
def test_missing_buckets(fill: str, expected: list[float | None]) -> None:
    rows = response(
        [event(1, 10), event(4, 40)], 6, interval="1s", fill=fill, stats=("count", "max")
    )
    assert [row["max"] for row in rows] == expected
    assert [row["count"] for row in rows] == [0, 1, 0, 0, 1, 0]


def test_without_events_there_are_rows_only_to_fill_and_only_without_groups() -> None:
    assert response([]) == []
    assert response([], fill="null", stats=("count",)) == [{"bucket": 0, "count": 0}]
    assert response([], fill="null", group_by="device") == []


def test_no_more_than_fifty_thousand_rows() -> None:
    assert len(response([], 50_000, interval="1s", fill="null")) == 50_000
    with pytest.raises(TooManyRows):
        response([], 50_001, interval="1s", fill="null")
    with pytest.raises(TooManyRows):
        response(
            [event(1, 1), event(1, 1, "b")], 25_001, interval="1s", fill="null", group_by="device"
        )


@pytest.mark.parametrize(
    ("interval", "tz", "at", "start"),
    [
        ("90m", "UTC", "2026-02-01T02:00Z", "2026-02-01T01:30Z"),
        ("7h", "Asia/Kolkata", "1970-01-01T08:00Z", "1970-01-01T07:00Z"),
        ("1d", "Asia/Kolkata", "2026-02-01T18:29Z", "2026-01-31T18:30Z"),
        ("1w", "UTC", "2026-02-01T00:00Z", "2026-01-26T00:00Z"),
        ("1w", "UTC", "1970-01-04T00:00Z", "1969-12-29T00:00Z"),
        ("5mo", "UTC", "1969-12-31T00:00Z", "1969-08-01T00:00Z"),
        ("3d", "UTC", "1969-12-31T00:00Z", "1969-12-29T00:00Z"),
        # Midnight does not exist: the day begins at one o'clock.
        ("1d", "Africa/Cairo", "2026-04-24T12:00Z", "2026-04-23T22:00Z"),
        ("1d", "America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z"),
        # Midnight exists twice: the first one counts.
        ("1d", "America/Havana", "2025-11-02T05:30Z", "2025-11-02T04:00Z"),
    ],
)
def test_the_start_of_a_bucket(interval: str, tz: str, at: str, start: str) -> None:
    buckets = Buckets(interval, tz)
    assert buckets.start(buckets.number(datetime.fromisoformat(at))) == datetime.fromisoformat(
        start
    )


def test_a_day_that_a_time_zone_skipped_has_no_bucket() -> None:
    buckets = Buckets("1d", "Pacific/Apia")
    first, last = midnight(date(2011, 12, 29), "Pacific/Apia"), datetime(2012, 1, 1, tzinfo=UTC)
    starts = [buckets.start(n) for n in buckets.between(first, last)]
    assert [at.day for at in starts] == [29, 30, 31]
    assert all(one < other for one, other in pairwise(starts))


def test_a_days_summary() -> None:
    events = [event(-1, 1), event(0, 2), event(86_399, 4), event(86_400, 8), event(5, 16, "b")]
    found = summary(events, "a", date(2026, 2, 1), "UTC", ())["m"]
    assert {name: shown_number(value) for name, value in found.items()} == {
        "count": 2, "min": 2, "max": 4, "avg": 3,
    }  # fmt: skip
    empty = summary(events, "a", date(2026, 3, 1), "UTC", ("soc_percent",))["soc_percent"]
    assert [shown_number(value) for value in empty.values()] == [0, 0, 0, 0]


def test_which_queries_need_raw_events() -> None:
    hour = timedelta(hours=1)

    def needs(end: datetime = START + 48 * hour, **more: Any) -> bool:
        floor = START + 24 * hour
        return needs_raw_before(floor, AggregateQuery("m", START, end, **{"interval": "1h"} | more))

    assert not needs()
    assert not needs(group_by="device", interval="1d", stats=("first", "stddev"))
    assert needs(interval="30m")
    assert needs(tags=("x",))
    assert needs(group_by="tag")
    assert needs(stats=("p99",))
    assert needs(end=START + 1.5 * hour)
    assert not needs(end=START + 30.5 * hour)
    assert needs(interval="90m", end=START + hour)
    assert not needs(interval="120m")
    assert needs(interval="1d", tz="Asia/Kolkata")


def test_what_counts_as_a_difference() -> None:
    query = AggregateQuery("m", START, START + timedelta(seconds=60), stats=("count", "sum"))
    expected = aggregate([event(0, 1.5), event(1, 1.5)], query)

    def differs(text: str) -> bool:
        return difference(expected, f"[{text}]", "UTC") is not None

    assert not differs('{"bucket":"2026-02-01T00:00:00Z","count":2,"sum":3}')
    assert differs('{"bucket":"2026-02-01T00:00:00Z","count":2,"sum":3.0}')
    assert differs('{"bucket":"2026-02-01T00:00:00Z","count":2,"sum":3.00001}')
    assert differs('{"bucket":"2026-02-01T00:00:00Z","count":2,"sum":null}')
    assert differs('{"bucket":"2026-02-01T00:00:00Z","sum":3,"count":2}')
    assert differs('{"bucket":"2026-02-01T01:00:00+01:00","count":2,"sum":3}')
    assert differs("")
