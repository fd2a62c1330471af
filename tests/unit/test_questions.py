from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.aggregate.buckets import buckets
from api.aggregate.query import (
    AggregateQuery,
    GroupBy,
    Hours,
    Stat,
    events_from,
    parse_stats,
    rolled_hours,
    whole_hours,
)
from runtime.errors import InvalidRequest


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


CLOSED = at("2026-01-02T12:00")


def asked(
    start: str, end: str, interval: str = "1h", tz: str = "UTC", **more: Any
) -> AggregateQuery:
    zone = ZoneInfo(tz)
    found = buckets(interval, zone, at(start), at(end))
    tags = more.pop("tags", None)
    return AggregateQuery("temp", (), tags, at(start), at(end), found, offsets=[], **more)


def test_whole_closed_hours_come_from_rollups() -> None:
    found = rolled_hours(asked("2026-01-01T00:30", "2026-01-01T05:15"), CLOSED)
    assert found == Hours(at("2026-01-01T01:00"), at("2026-01-01T05:00"), [])


def test_hours_that_are_not_closed_come_from_events() -> None:
    found = rolled_hours(asked("2026-01-02T10:00", "2026-01-02T15:00"), CLOSED)
    assert found == Hours(at("2026-01-02T10:00"), CLOSED, [])
    assert rolled_hours(asked("2026-01-02T12:00", "2026-01-02T15:00"), CLOSED) is None


@pytest.mark.parametrize(
    "question",
    [
        asked("2026-01-01", "2026-01-02", "90m"),
        asked("2026-01-01", "2026-01-02", tags="'room:101'"),
        asked("2026-01-01", "2026-01-02", group_by=GroupBy.TAG),
        asked("2026-01-01", "2026-01-02", stats=(Stat.COUNT, Stat.P95)),
        asked("2026-01-01T00:10", "2026-01-01T00:50"),
    ],
    ids=["parts of hours", "tag", "by tag", "percentile", "less than an hour"],
)
def test_what_rollups_do_not_know_comes_from_events(question: AggregateQuery) -> None:
    hours = rolled_hours(question, CLOSED)
    assert hours is None
    assert events_from(question.start, question.end, hours) == question.start


def test_an_hour_that_a_bucket_cuts_comes_from_events() -> None:
    question = asked("2026-01-01", "2026-01-02", "1d", "Asia/Kolkata")
    hours = rolled_hours(question, CLOSED)
    assert hours == Hours(at("2026-01-01"), at("2026-01-02"), [at("2026-01-01T18:00")])
    assert events_from(question.start, question.end, hours) == at("2026-01-01T18:00")


def test_whole_hours_alone_need_no_events() -> None:
    start, end = at("2026-01-01"), at("2026-01-02")
    hours = Hours(*whole_hours(start, end, CLOSED), cut=[])
    assert events_from(start, end, hours) is None


def test_the_edges_of_a_range_need_their_events() -> None:
    for start, end, first in (
        ("2026-01-01T00:01", "2026-01-02", "2026-01-01T00:01"),
        ("2026-01-01", "2026-01-02T00:01", "2026-01-02"),
        ("2026-01-03", "2026-01-04", "2026-01-03"),
    ):
        hours = Hours(*whole_hours(at(start), at(end), CLOSED), cut=[])
        assert events_from(at(start), at(end), hours) == at(first)


def test_stats_are_shown_in_one_order_and_once() -> None:
    assert parse_stats("p95,count,p95") == (Stat.COUNT, Stat.P95)


@pytest.mark.parametrize("text", ["", "mean", "count,", "count, sum", "COUNT"])
def test_an_unknown_statistic_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="stats"):
        parse_stats(text)
