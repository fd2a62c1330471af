from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.aggregate.buckets import buckets
from api.aggregate.query import (
    AggregateQuery,
    GroupBy,
    ReadPlan,
    plan_query,
    plan_range,
)
from api.aggregate.stats import Stat, parse_stats
from runtime.errors import InvalidRequest


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


CLOSED = at("2026-01-02T12:00")


def query(
    start: str, end: str, interval: str = "1h", tz: str = "UTC", **more: Any
) -> AggregateQuery:
    zone = ZoneInfo(tz)
    found = buckets(interval, zone, at(start), at(end))
    tags = more.pop("tags", None)
    return AggregateQuery(("temp",), (), tags, at(start), at(end), found, offsets=[], **more)


def test_whole_closed_hours_come_from_rollups() -> None:
    start, end = "2026-01-01T00:30", "2026-01-01T05:15"
    found = plan_query(query(start, end), CLOSED)
    assert found == ReadPlan(at(start), at(end), at("2026-01-01T01:00"), at("2026-01-01T05:00"))
    assert found.raw_fraction == pytest.approx(45 / 285)


def test_hours_that_are_not_closed_come_from_events() -> None:
    start, end = "2026-01-02T10:00", "2026-01-02T15:00"
    found = plan_query(query(start, end), CLOSED)
    assert found == ReadPlan(at(start), at(end), at(start), CLOSED)
    assert not plan_query(query("2026-01-02T12:00", end), CLOSED).uses_rollups


@pytest.mark.parametrize(
    "example",
    [
        query("2026-01-01", "2026-01-02", "90m"),
        query("2026-01-01", "2026-01-02", tags="'room:101'"),
        query("2026-01-01", "2026-01-02", group_by=(GroupBy.TAG,)),
        query("2026-01-01", "2026-01-02", stats=(Stat.COUNT, Stat.P95)),
        query("2026-01-01T00:10", "2026-01-01T00:50"),
    ],
    ids=["parts of hours", "tag", "by tag", "percentile", "less than an hour"],
)
def test_what_rollups_do_not_hold_comes_from_events(example: AggregateQuery) -> None:
    found = plan_query(example, CLOSED)
    assert not found.uses_rollups
    assert found.first_event == example.start
    assert found.raw_fraction == 1


def test_an_hour_that_a_bucket_splits_comes_from_events() -> None:
    found = plan_query(query("2026-01-01", "2026-01-02", "1d", "Asia/Kolkata"), CLOSED)
    split = at("2026-01-01T18:00")
    start, end = at("2026-01-01"), at("2026-01-02")
    assert found == ReadPlan(start, end, start, end, [split])
    assert found.first_event == split
    assert found.raw_fraction == pytest.approx(1 / 24)


def test_whole_hours_alone_need_no_events() -> None:
    found = plan_range(at("2026-01-01"), at("2026-01-02"), CLOSED)
    assert found.first_event is None
    assert found.raw_fraction == 0


def test_the_edges_of_a_range_need_their_events() -> None:
    for start, end, first in (
        ("2026-01-01T00:01", "2026-01-02", "2026-01-01T00:01"),
        ("2026-01-01", "2026-01-02T00:01", "2026-01-02"),
        ("2026-01-03", "2026-01-04", "2026-01-03"),
    ):
        assert plan_range(at(start), at(end), CLOSED).first_event == at(first)


def test_stats_are_shown_in_one_order_and_once() -> None:
    assert parse_stats("p95,count,p95") == (Stat.COUNT, Stat.P95)


@pytest.mark.parametrize("text", ["", "mean", "count,", "count, sum", "COUNT"])
def test_an_unknown_statistic_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="stats"):
        parse_stats(text)
