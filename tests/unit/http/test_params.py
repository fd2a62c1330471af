"""Parameters by docs/http-api.md#times-and-ranges: ranges, days, time zones, and unknown names."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar import Litestar, get
from litestar.params import FromQuery, QueryParameter
from litestar.testing import AsyncTestClient

from api.http.params import (
    DeviceIdPath,
    FromTime,
    PageLimit,
    RequiredTime,
    TimeZone,
    check_target,
    day_in,
    instant,
    time_range,
    time_zone,
)
from api.http.problems import EXCEPTION_HANDLERS
from runtime.errors import InvalidRequest

properties = settings(max_examples=30, deadline=None, database=None)

NOON = "2026-02-01T12:00:00Z"
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # Its clocks changed at midnight: days began at 01:00.
    "America/Havana",  # Midnight came twice.
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # Clocks change by half an hour.
    "Pacific/Apia",  # It skipped 2011-12-30.
]


# -- Ranges. --


def test_a_range_is_half_open_and_its_bounds_may_be_absent() -> None:
    noon = datetime(2026, 2, 1, 12, tzinfo=UTC)
    assert time_range(None, None) == (None, None)
    assert time_range(NOON, None) == (noon, None)
    assert time_range(None, NOON) == (None, noon)
    assert time_range(NOON, "2026-02-01 12:00:01") == (noon, noon + timedelta(seconds=1))


@pytest.mark.parametrize(
    "to_time",
    [NOON, "2026-02-01T13:00:00+01:00", "2026-02-01T11:59:59.999999Z", "1999-01-01 00:00:00"],
)
def test_from_must_be_before_to(to_time: str) -> None:
    with pytest.raises(InvalidRequest, match="from_time must be before to_time"):
        time_range(NOON, to_time)


@pytest.mark.parametrize("text", ["", "now", "2026-02-01", "1769955825", "2026-02-01T25:00:00Z"])
def test_a_wrong_time_is_refused_by_the_name_of_its_parameter(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^start_time: "):
        instant("start_time", text)
    with pytest.raises(InvalidRequest, match=r"^from_time: "):
        time_range(text, NOON)
    with pytest.raises(InvalidRequest, match=r"^to_time: "):
        time_range(None, text)


def test_a_query_time_may_have_lost_its_plus() -> None:
    assert instant("from_time", "2026-02-01T13:00:00 01:00") == instant("from_time", NOON)


# -- Time zones and days. --


@pytest.mark.parametrize("name", ZONES)
def test_a_time_zone_goes_by_its_iana_name(name: str) -> None:
    assert time_zone(name) == ZoneInfo(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Berlin", "europe/berlin", "CEST+2", "+02:00", "../UTC", "/etc/localtime", "UTC\0"),
        *("Europe", "Europe/", "Europe/Berlin ", "\ud800", "Z" * 999),
    ],
    ids=ascii,
)
def test_an_invalid_iana_name_is_refused_in_a_short_sentence(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^tz: ") as refused:
        time_zone(name)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("zone", "text", "start", "hours"),
    [
        ("UTC", "2026-02-01", "2026-02-01T00:00:00Z", 24),
        ("Europe/Berlin", "2026-02-01", "2026-01-31T23:00:00Z", 24),
        ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z", 23),
        ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", 25),
        ("Asia/Kathmandu", "2026-02-01", "2026-01-31T18:15:00Z", 24),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", 24.5),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", 23),
        ("America/Havana", "2025-11-02", "2025-11-02T04:00:00Z", 25),
        ("UTC", "2024-02-29", "2024-02-29T00:00:00Z", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(
    zone: str, text: str, start: str, hours: float
) -> None:
    day, begin, end = day_in(ZoneInfo(zone), text)
    assert day == date.fromisoformat(text)
    assert begin == instant("start", start)
    assert end - begin == timedelta(hours=hours)


@properties
@given(st.sampled_from(ZONES), st.dates(date(1970, 1, 1), date(2100, 1, 1)))
def test_days_follow_each_other_without_gap_or_overlap(zone: str, day: date) -> None:
    tomorrow = day + timedelta(days=1)
    _, begin, end = day_in(ZoneInfo(zone), day.isoformat())
    assert day_in(ZoneInfo(zone), tomorrow.isoformat())[1] == end
    assert begin <= end
    assert begin.utcoffset() == end.utcoffset() == timedelta()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "20260201",
        "2026-2-1",
        "2026-02-30",
        "2026-13-01",
        "2026-02-01T00:00:00Z",
        "2026-02-01 ",
        " 2026-02-1",
        "2026/02/01",
        "01.02.2026",
        "2026-032",
        "2026-W05-7",
        "0001011000",
        "２０２６-02-01",  # noqa: RUF001
        "9999-12-31",  # Its end lies beyond the calendar.
        "0000-01-01",
    ],
    ids=ascii,
)
def test_only_a_calendar_day_is_a_day(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^date: "):
        day_in(ZoneInfo("UTC"), text)


@properties
@given(st.text() | st.text("0123456789-W", min_size=10, max_size=10), st.sampled_from(ZONES))
def test_any_other_day_is_the_mistake_of_the_caller(text: str, zone: str) -> None:
    try:
        day, _, _ = day_in(ZoneInfo(zone), text)
    except InvalidRequest:
        return
    assert day.isoformat() == text


# -- Parameters by name. --


@get("/points/{device_id:str}")
async def points(
    device_id: DeviceIdPath,
    start_time: RequiredTime,
    limit: PageLimit = 100,
    tag: Annotated[list[str] | None, QueryParameter(max_items=2)] = None,
    tz: TimeZone = "UTC",
    until: Annotated[str | None, QueryParameter(name="to")] = None,
) -> dict[str, Any]:
    return {"start_time": start_time, "limit": limit, "tag": tag, "tz": tz, "to": until}


@get("/nothing")
async def nothing() -> None: ...


@get("/open")
async def open_range(from_time: FromTime = None, q: FromQuery[str | None] = None) -> str:
    return f"{from_time} {q}"


@pytest.fixture
async def client() -> AsyncIterator[AsyncTestClient[Litestar]]:
    app = Litestar(
        [points, nothing, open_range],
        before_request=check_target,
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=None,
        logging_config=None,
    )
    async with AsyncTestClient(app) as client:
        yield client


async def test_every_named_parameter_is_taken(client: AsyncTestClient[Litestar]) -> None:
    response = await client.get("/points/a?start_time=x&limit=5&tag=a&tag=b&tz=UTC&to=y")
    assert response.status_code == 200
    assert response.json() == {
        "start_time": "x",
        "limit": 5,
        "tag": ["a", "b"],
        "tz": "UTC",
        "to": "y",
    }
    assert (await client.get("/nothing")).status_code == 200
    assert (await client.get("/open?from_time=x&q=y")).text == "x y"


@pytest.mark.parametrize(
    ("url", "unknown"),
    [
        ("/points/a?start_time=x&limits=5", "limits"),
        ("/points/a?start_time=x&PageLimit=5", "PageLimit"),
        ("/points/a?start_time=x&until=y", "until"),  # It is called `to`.
        ("/points/a?start_time=x&device_id=b", "device_id"),  # It stands in the path.
        ("/nothing?x=1", "x"),
        ("/nothing?limit=1", "limit"),
        ("/open?from_time=&b=1&a=2", "a, b"),
        ("/open?request=1", "request"),
    ],
)
async def test_an_unknown_parameter_is_refused_by_its_name(
    client: AsyncTestClient[Litestar], url: str, unknown: str
) -> None:
    response = await client.get(url)
    assert response.status_code == 422
    assert response.headers["content-type"].startswith("application/problem+json")
    assert f"Unknown query parameter {unknown}:" in response.json()["detail"]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "1.5", ""])
async def test_a_page_has_1_to_1000_rows(client: AsyncTestClient[Litestar], limit: str) -> None:
    response = await client.get(f"/points/a?start_time=x&limit={limit}")
    assert response.status_code == 422
    assert response.headers["content-type"].startswith("application/problem+json")
    for edge in (1, 1000):
        assert (await client.get(f"/points/a?start_time=x&limit={edge}")).json()["limit"] == edge


async def test_a_missing_parameter_and_too_many_of_one_answer_422(
    client: AsyncTestClient[Litestar],
) -> None:
    assert (await client.get("/points/a")).status_code == 422
    assert (await client.get("/points/a?start_time=x&tag=a&tag=b&tag=c")).status_code == 422
