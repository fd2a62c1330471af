from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from api.aggregate.buckets import Calendar, Fixed, buckets, offset_changes, whole_hour
from runtime.errors import InvalidRequest

UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bounds(interval: str, zone: ZoneInfo, start: str, end: str) -> list[datetime]:
    found = buckets(interval, zone, at(start), at(end))
    assert isinstance(found, Calendar)
    return found.bounds


def hours_between(instants: list[datetime]) -> list[float]:
    return [(later - earlier) / timedelta(hours=1) for earlier, later in pairwise(instants)]


def test_seconds_minutes_and_hours_are_of_fixed_length() -> None:
    for text, length in (("30s", 30), ("5m", 300), ("1h", 3600), ("36h", 129_600)):
        found = buckets(text, BERLIN, at("2026-01-01"), at("2026-01-02"))
        assert found == Fixed(timedelta(seconds=length))


def test_only_whole_hours_can_be_answered_by_rollups() -> None:
    assert Fixed(timedelta(hours=36)).whole_hours
    assert not Fixed(timedelta(minutes=90)).whole_hours


def test_the_number_of_fixed_buckets_counts_the_ones_that_are_cut() -> None:
    hour = Fixed(timedelta(hours=1))
    assert hour.number(at("2026-01-01T00:00"), at("2026-01-01T02:00")) == 2
    assert hour.number(at("2026-01-01T00:59"), at("2026-01-01T02:01")) == 3
    assert hour.number(at("1969-12-31T23:59"), at("1970-01-01T00:01")) == 2


def test_a_day_has_23_or_25_hours_when_clocks_change() -> None:
    assert hours_between(bounds("1d", BERLIN, "2026-03-28T12:00", "2026-03-30T12:00")) == [
        24,
        23,
        24,
    ]
    assert hours_between(bounds("1d", BERLIN, "2026-10-24T12:00", "2026-10-26T12:00")) == [
        24,
        25,
        25 - 1,
    ]


def test_a_day_begins_at_its_first_instant_where_midnight_does_not_exist() -> None:
    found = bounds("1d", ZoneInfo("Africa/Cairo"), "2026-04-23T12:00", "2026-04-24T12:00")
    assert found[1] == at("2026-04-23T22:00")  # 01:00 in Cairo, after 23:59.


def test_a_day_that_has_midnight_twice_begins_at_the_first() -> None:
    found = bounds("1d", ZoneInfo("America/Havana"), "2026-10-31T12:00", "2026-11-01T12:00")
    assert found[1] == at("2026-11-01T04:00")
    assert hours_between(found) == [24, 25]


def test_a_day_that_a_zone_skipped_is_no_bucket() -> None:
    found = bounds("1d", ZoneInfo("Pacific/Apia"), "2011-12-29T12:00", "2011-12-31T12:00")
    assert hours_between(found) == [24, 24, 24]  # 29, 31 December and 1 January.


def test_the_first_bucket_holds_the_beginning_of_the_range() -> None:
    """In Goose Bay the day after 2010-11-06 began at 00:00, a minute later clocks went back to 23:01."""
    zone = ZoneInfo("America/Goose_Bay")
    start = datetime(2010, 11, 7, 3, 30, tzinfo=UTC)
    assert start.astimezone(zone).date().isoformat() == "2010-11-06"
    found = buckets("1d", zone, start, start + timedelta(hours=1))
    assert isinstance(found, Calendar)
    assert found.bounds[0] <= start < found.bounds[1]


def test_weeks_begin_on_monday_and_months_are_counted_from_1970() -> None:
    assert bounds("1w", UTC_ZONE, "2026-11-18", "2026-11-19") == [
        at("2026-11-16"),
        at("2026-11-23"),
    ]
    assert bounds("2w", UTC_ZONE, "1970-01-20", "1970-01-21") == [
        at("1970-01-19"),
        at("1970-02-02"),
    ]
    assert bounds("3mo", UTC_ZONE, "2026-05-05", "2026-05-06") == [
        at("2026-04-01"),
        at("2026-07-01"),
    ]
    assert bounds("5d", UTC_ZONE, "1970-01-07", "1970-01-08") == [
        at("1970-01-06"),
        at("1970-01-11"),
    ]


def test_periods_before_1970_are_counted_downwards() -> None:
    assert bounds("5d", UTC_ZONE, "1969-12-31", "1970-01-01") == [
        at("1969-12-27"),
        at("1970-01-01"),
    ]
    assert bounds("7mo", UTC_ZONE, "1969-12-31", "1970-01-01") == [
        at("1969-06-01"),
        at("1970-01-01"),
    ]


def test_hours_that_a_local_midnight_splits_are_known() -> None:
    kolkata = buckets("1d", ZoneInfo("Asia/Kolkata"), at("2026-01-01"), at("2026-01-03"))
    assert isinstance(kolkata, Calendar)
    assert kolkata.split_hours(at("2026-01-01"), at("2026-01-03")) == [
        at("2026-01-01T18:00"),
        at("2026-01-02T18:00"),
    ]
    berlin = buckets("1d", BERLIN, at("2026-01-01"), at("2026-01-03"))
    assert isinstance(berlin, Calendar)
    assert berlin.split_hours(at("2026-01-01"), at("2026-01-03")) == []


@pytest.mark.parametrize(
    "text", ["", "1", "m", "0m", "-1m", "1.5h", "1y", "1M", " 1m", "1m ", "01m", "٣m", "1mo1d"]
)
def test_an_invalid_interval_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="interval"):
        buckets(text, UTC_ZONE, at("2026-01-01"), at("2026-01-02"))


@pytest.mark.parametrize("text", ["36526d", "5219w", "1201mo", "876601h", "9999999999s"])
def test_an_interval_of_more_than_a_century_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="century"):
        buckets(text, UTC_ZONE, at("2026-01-01"), at("2026-01-02"))


@pytest.mark.parametrize("text", ["36525d", "5217w", "1200mo", "876600h"])
def test_a_century_is_not_too_long(text: str) -> None:
    buckets(text, UTC_ZONE, at("1900-01-01"), at("2199-12-31"))


def test_whole_hours_are_those_of_utc() -> None:
    assert whole_hour(at("2026-01-01T10:59:59.999999")) == at("2026-01-01T10:00")
    assert whole_hour(at("1969-12-31T23:30")) == at("1969-12-31T23:00")


def test_the_offset_of_a_zone_is_known_to_the_second() -> None:
    year = at("2026-01-01"), at("2027-01-01")
    hour = timedelta(hours=1)
    assert offset_changes(UTC_ZONE, *year) == [(at("2026-01-01"), timedelta(), "Z")]
    assert offset_changes(BERLIN, *year) == [
        (at("2026-01-01"), hour, "+01:00"),
        (at("2026-03-29T01:00"), 2 * hour, "+02:00"),
        (at("2026-10-25T01:00"), hour, "+01:00"),
    ]


def test_offsets_of_seconds_are_cut_to_minutes() -> None:
    (found,) = offset_changes(ZoneInfo("Africa/Monrovia"), at("1950-01-01"), at("1950-01-02"))
    assert found.text == "-00:45"  # Of 44 minutes and 30 seconds.
