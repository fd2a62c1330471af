"""Times without offset: the instant that the clock of a device meant, and what no clock can mean."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.fast import FastDecoder
from ingestor.decode.strict import decode
from ingestor.decode.wall_clock import WallClocks
from schema.event import Event, Reason
from schema.instants import epoch_us

properties = settings(max_examples=60, deadline=None, database=None)

ARRIVAL = datetime(2026, 2, 1, 14, 30, tzinfo=UTC)
LIMITS = AcceptLimits(timedelta(days=5500), timedelta(seconds=300), payload_bytes_max=262_144)
place = WallClocks(LIMITS).place
ORIGIN = Origin(epoch_us(ARRIVAL), "deviceA")
STEP = timedelta(minutes=15)  # Of the offsets of these zones in these years.
STEPS_OF_A_DAY = 24 * 4
# By hours, half and quarter hours, two hours, a whole day, and backwards in summer.
ZONES = [
    "UTC", "Europe/Berlin", "Europe/Dublin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe",
    "Pacific/Chatham", "Antarctica/Troll", "Africa/Casablanca", "Pacific/Kiritimati", "Pacific/Apia",
    "Asia/Kathmandu", "Asia/Gaza",
]  # fmt: skip


def local(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


def changes_of(name: str) -> list[datetime]:
    """The hours after which the clocks of a zone changed, from 2011 on: Apia left out a day then."""
    zone, hour = ZoneInfo(name), timedelta(hours=1)
    at, found = datetime(2011, 9, 1, tzinfo=UTC), [datetime(2024, 6, 1, tzinfo=UTC)]
    while at < datetime(2012, 4, 30, tzinfo=UTC):
        if at.astimezone(zone).utcoffset() != (at + hour).astimezone(zone).utcoffset():
            found.append(at)
        at += hour
    return found


CHANGES = {name: changes_of(name) for name in ZONES}


@st.composite
def clocks(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and what a clock in it may show, near a change of its clocks."""
    name = draw(st.sampled_from(ZONES))
    shown = local(draw(st.sampled_from(CHANGES[name])), ZoneInfo(name))
    away = timedelta(seconds=draw(st.integers(-5 * 3600, 5 * 3600) | st.integers(-90_000, 90_000)))
    return name, shown + away + timedelta(microseconds=draw(st.sampled_from([0, 1, 250_000])))


def brute_force(name: str, shown: datetime) -> datetime:
    """Every instant is tried. None shows it: the offset of the last one that shows less."""
    zone, wall = ZoneInfo(name), shown.replace(tzinfo=UTC)
    tried = [wall + n * STEP for n in range(-STEPS_OF_A_DAY, STEPS_OF_A_DAY)]
    for instant in tried:
        if local(instant, zone) == shown:
            return instant
    before = max(instant for instant in tried if local(instant, zone) < shown)
    return wall - (local(before, zone).replace(tzinfo=UTC) - before)


def by_both(item: dict[str, Any]) -> list[Any]:
    payload = json.dumps(item).encode()
    return [*decode(payload, ORIGIN, LIMITS), *FastDecoder(LIMITS).decode(payload, ORIGIN)]


def event(text: str, **more: Any) -> Event:
    one, other = by_both({"event_id": "e1", "metrics": {"x": 1}, "timestamp": text} | more)
    assert one == other
    assert isinstance(one, Event), one
    return one


@properties
@given(clocks(), st.sampled_from("T "))
def test_the_instant_is_that_of_brute_force_of_two_the_earlier(
    clock: tuple[str, datetime], separator: str
) -> None:
    name, shown = clock
    found = event(shown.isoformat(separator))
    assert place(found, name) is None
    assert found.ts == brute_force(name, shown)


@pytest.mark.parametrize(
    ("shown", "instant"),
    [
        ("2025-10-26T02:30:00", datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),  # It came twice.
        ("2025-03-30T02:30:00", datetime(2025, 3, 30, 1, 30, tzinfo=UTC)),  # It was skipped.
        ("2025-07-01T12:00:60", datetime(2025, 7, 1, 10, 1, tzinfo=UTC)),
    ],
)
def test_changes_of_the_clocks_in_berlin(shown: str, instant: datetime) -> None:
    found = event(shown)
    assert place(found, "Europe/Berlin") is None
    assert found.ts == instant


def test_a_device_without_zone_means_utc_and_an_offset_is_never_read_otherwise() -> None:
    found = event("2026-02-01T14:00:00")
    assert place(found, None) is None
    assert found.ts == datetime(2026, 2, 1, 14, tzinfo=UTC)
    for text in ("2026-02-01T14:00:00Z", "2026-02-01T16:00:00+02:00"):
        found = event(text)
        assert place(found, "Asia/Tokyo") is None
        assert found.ts == datetime(2026, 2, 1, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("shown", "right", "wrong", "reason"),
    [
        ("2026-02-01T23:30:00", "Asia/Tokyo", None, Reason.IN_THE_FUTURE),
        ("2026-02-01T23:34:59", "Asia/Tokyo", "Asia/Shanghai", Reason.IN_THE_FUTURE),
        ("2011-01-11T12:00:00", "America/New_York", "UTC", Reason.TOO_OLD),
    ],
)
def test_the_window_is_checked_in_the_zone_of_the_device(
    shown: str, right: str, wrong: str | None, reason: Reason
) -> None:
    found = event(shown)
    assert place(found, right) is None
    fault = place(found, wrong)
    assert fault is not None
    assert fault[0] is reason
    assert f"without an offset it counts as {wrong or 'UTC'}" in fault[1]
    assert place(found, right) is None, "it may be checked again"


@pytest.mark.parametrize("shown", ["2026-02-02T14:36:00", "2011-01-09T14:29:00"])
def test_what_no_zone_can_mean_is_refused_when_it_is_decoded(shown: str) -> None:
    one, other = by_both({"metrics": {"x": 1}, "timestamp": shown})
    assert one == other
    assert one.reason in {Reason.IN_THE_FUTURE, Reason.TOO_OLD}


def test_derived_ids_are_made_of_the_clock_as_it_is_written() -> None:
    found = by_both({"metrics": {"x": 1}, "timestamp": "2026-02-01 10:00:00"})
    found += by_both({"metrics": {"x": 1}, "timestamp": "2026-02-01T10:00:00Z"})
    place(found[0], "Asia/Tokyo")
    assert len({each.event_id for each in found}) == 1


def test_a_zone_that_this_server_does_not_know_costs_the_event_and_nothing_else() -> None:
    fault = place(event("2026-02-01T10:00:00"), "Mars/Olympus")
    assert fault is not None
    assert fault[0] is Reason.BAD_TIME
    assert "Mars/Olympus" in fault[1]
