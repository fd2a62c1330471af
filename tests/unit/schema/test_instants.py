"""Times by docs/http-api.md#times-and-ranges: RFC 3339 text, the only spelling that is accepted."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.instants import parse_instant, parse_query_instant, rfc3339

properties = settings(max_examples=30, deadline=None, database=None)

AT = datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)
# A day away from both ends of the calendar, so that no offset leaves it.
WALL_CLOCKS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, datetime]:
    """A text in one of the accepted forms and the instant that it names."""
    local = draw(WALL_CLOCKS).replace(microsecond=0)
    digits = draw(st.text("0123456789", max_size=9))
    fraction = f".{digits}" if digits else ""
    exact = local.replace(microsecond=int(digits.ljust(6, "0")[:6]))
    minutes = draw(st.none() | OFFSETS)
    if minutes is None:
        zone, offset = draw(st.sampled_from(["", "Z", "z"])), timedelta()
    else:
        hours, rest = divmod(abs(minutes), 60)
        zone = f"{'-' if minutes < 0 else '+'}{hours:02d}:{rest:02d}"
        offset = timedelta(minutes=minutes)
    separator = draw(st.sampled_from("Tt "))
    day, clock = local.isoformat(separator).split(separator)
    text = f"{day}{separator}{clock}{fraction}{zone}"
    return text, exact.replace(tzinfo=timezone(offset))


@properties
@given(spellings())
def test_every_accepted_spelling_is_parsed_as_its_instant(
    spelling: tuple[str, datetime],
) -> None:
    text, instant = spelling
    assert parse_instant(text) == instant
    assert parse_instant(text).utcoffset() == timedelta()
    assert parse_query_instant(text) == instant


@properties
@given(spellings())
def test_a_plus_that_the_query_string_turned_into_a_space_is_accepted(
    spelling: tuple[str, datetime],
) -> None:
    text, instant = spelling
    assert parse_query_instant(text.replace("+", " ")) == instant


@properties
@given(spellings())
def test_the_form_of_answers_is_parsed_as_the_same_instant(spelling: tuple[str, datetime]) -> None:
    _, instant = spelling
    assert parse_instant(rfc3339(instant)) == instant


@properties
@given(st.text() | st.text("0123456789-+:.TtZz W,", max_size=40))
def test_any_other_text_raises_value_error(text: str) -> None:
    for parse in (parse_instant, parse_query_instant):
        try:
            instant = parse(text)
        except ValueError:
            continue
        assert instant.utcoffset() == timedelta()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-01T14:23:45Z", AT),
        ("2026-02-01t14:23:45z", AT),
        ("2026-02-01 14:23:45", AT),
        ("2026-02-01T14:23:45", AT),
        ("2026-02-01T14:23:45-00:00", AT),
        ("2026-02-01T15:23:45+01:00", AT),
        ("2026-02-01T09:53:45-04:30", AT),
        ("2026-02-02T14:22:45+23:59", AT),
        ("2026-02-01T14:23:45.5Z", AT.replace(microsecond=500_000)),
        ("2026-02-01T14:23:45.123456789Z", AT.replace(microsecond=123_456)),
        ("2026-02-01T14:23:45.999999999Z", AT.replace(microsecond=999_999)),
        ("2024-02-29T14:23:45Z", AT.replace(year=2024, day=29)),
    ],
)
def test_the_documented_forms_are_accepted(text: str, expected: datetime) -> None:
    assert parse_instant(text) == expected


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-02-01T14:23:60Z", datetime(2026, 2, 1, 14, 24, tzinfo=UTC)),
        ("2016-12-31T23:59:60.25Z", datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2017-01-01T00:59:60+01:00", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2026-02-01T15:23:45+0100", datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        ("2026-02-01 15:23:45+01", datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        ("2026-02-01T15:23:45.5-0030", datetime(2026, 2, 1, 15, 53, 45, 500_000, tzinfo=UTC)),
    ],
)
def test_second_60_and_short_offsets_are_understood(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant
    assert parse_query_instant(text.replace("+", " ")) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1769955825",
        "2026-02-01",
        "2026-02-01T",
        "2026-02-01T14",
        "2026-02-01T14:23",
        "2026-02-01T14:23Z",
        "2026-W05-7",
        "2026-W05-7T14:23:45Z",
        "2026-032T14:23:45Z",
        "20260201T142345Z",
        "2026-02-01T142345Z",
        "20260201T14:23:45Z",
        "2026-2-1T14:23:45Z",
        "26-02-01T14:23:45Z",
        "+2026-02-01T14:23:45Z",
        "2026-02-01T14:23:45,5Z",
        "2026-02-01T14:23:45.Z",
        "2026-02-01T14:23:45.1234567890Z",
        "2026-02-01T14:23:45+010",
        "2026-02-01T14:23:45+1",
        "2026-02-01T14:23:45+01:00:30",
        "2026-02-01T14:23:45 Z",
        "2026-02-01T14:23:45ZZ",
        "2026-02-01T14:23:45 UTC",
        "2026-02-01T14:23:45\u221201:00",
        "2026-02-01  14:23:45Z",
        "2026-02-01_14:23:45Z",
        " 2026-02-01T14:23:45Z",
        "2026-02-01T14:23:45Z\n",
        "2026-02-01T14:23:45\n",
        "２０２６-02-01T14:23:45Z",  # noqa: RUF001  # Digits, but not ASCII digits.
        "2026-02-01T24:00:00Z",
        "2026-02-01T25:00:00Z",
        "2026-02-01T14:60:45Z",
        "2026-02-01T23:60:60Z",
        "9999-12-31T23:59:60Z",
        "2026-02-01T14:23:61Z",
        "2026-00-01T14:23:45Z",
        "2026-13-01T14:23:45Z",
        "2026-02-00T14:23:45Z",
        "2026-02-29T14:23:45Z",
        "0000-02-01T14:23:45Z",
        "2026-02-01T14:23:45+24:00",
        "2026-02-01T14:23:45-99:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_iso_forms_that_are_not_rfc_3339_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_instant(text)
    with pytest.raises(ValueError, match=r"\S"):
        parse_query_instant(text)


@pytest.mark.parametrize("offset", ["+01:60", "-01:99", "+22:60", "-22:75"])
def test_the_minutes_of_an_offset_end_at_59_as_in_rfc_3339(offset: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_instant(f"2026-02-01T14:23:45{offset}")


def test_a_space_between_date_and_time_is_never_read_as_a_lost_plus() -> None:
    assert parse_query_instant("2026-02-01 14:23:45") == AT
    assert parse_query_instant("2026-02-01 15:23:45 01:00") == AT
    assert parse_query_instant("2026-02-01T15:23:45.0 01:00") == AT


def test_only_a_query_accepts_a_lost_plus() -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_instant("2026-02-01T15:23:45 01:00")


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (AT, "2026-02-01T14:23:45Z"),
        (AT.replace(microsecond=500_000), "2026-02-01T14:23:45.5Z"),
        (AT.astimezone(timezone(timedelta(hours=2))), "2026-02-01T14:23:45Z"),
    ],
)
def test_answers_are_in_utc_with_a_fraction_only_where_there_is_one(
    instant: datetime, text: str
) -> None:
    assert rfc3339(instant) == text
