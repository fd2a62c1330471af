"""Devices that come and go: their history, and the incident that stays open meanwhile."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ingestor.decode.presence import HEARTBEAT, read_status
from scheduler.silence import sweep
from schema.database import Connection
from schema.feed import read_feed
from tests.integration.conftest import Doors
from tests.support.http.http_api import all_pages, api_on

pytestmark = pytest.mark.slow

OFFLINE_AFTER_S = 300
HISTORY = "/v1/devices/a/presence/history"


@pytest.fixture
async def db(db: Connection) -> Connection:
    """We have been receiving for ten days."""
    await db.execute("insert into canary values ('test', now() - interval '10 days', now())")
    return db


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def passes(db: Connection, **time: float) -> None:
    """Let time pass for every device, and sweep."""
    by = timedelta(**time)
    await db.execute(
        "update presence set last_seen = last_seen - $1::interval, since = since - $1::interval,"
        " span_ends = span_ends - $1::interval, check_at = check_at - $1::interval,"
        " changes = array(select at - $1::interval from unnest(changes) at)",
        by,
    )
    await db.execute(
        "update canary set since = since - $1::interval, received_at = clock_timestamp()", by
    )
    await sweep(db, OFFLINE_AFTER_S)


async def comes_and_goes(doors: Doors, db: Connection, times: int) -> None:
    """Each time is two changes, five minutes apart. No interval is learned from that."""
    for _ in range(times):
        await db.execute("update presence set gaps = null")
        await doors.signal("a", HEARTBEAT)
        await passes(db, seconds=303)


async def incidents(db: Connection) -> list[str]:
    return [item.state for item in await read_feed(db, 0) if item.rule_id == "silent"]


async def flapping(http: httpx.AsyncClient) -> bool:
    responses = [(await http.get(f"/v1/devices/a{path}")).json() for path in ("", "/presence")]
    responses += (await http.get("/v1/devices")).json()
    (value,) = {response["flapping"] for response in responses}
    assert isinstance(value, bool)
    return value


async def test_more_than_six_changes_in_an_hour_are_flapping(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    await comes_and_goes(doors, db, 3)
    assert not await flapping(http)
    await doors.signal("a", HEARTBEAT)
    assert await flapping(http)
    assert (await http.get("/v1/devices/summary")).json()["flapping"] == 1


async def test_as_many_changes_in_more_than_an_hour_are_not(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    for _ in range(8):
        await comes_and_goes(doors, db, 1)
        await passes(db, minutes=17)
    assert not await flapping(http)
    assert await incidents(db) == ["firing", *["resolved", "firing"] * 7]


async def test_the_incident_of_a_flapping_device_ends_an_hour_after_its_last_change(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    await comes_and_goes(doors, db, 6)
    await doors.signal("a", HEARTBEAT)
    told = ["firing", "resolved", "firing", "resolved", "firing"]
    assert await incidents(db) == told, "the fourth time it came back it was flapping"
    for _ in range(11):
        await doors.signal("a", HEARTBEAT)
        await passes(db, minutes=4)
        await passes(db, minutes=1)
    assert await flapping(http)
    await doors.signal("a", HEARTBEAT)
    await passes(db, minutes=4)
    assert await incidents(db) == told
    await doors.signal("a", HEARTBEAT)
    await passes(db, minutes=1)
    assert not await flapping(http)
    assert await incidents(db) == [*told, "resolved"]
    assert (await http.get("/v1/devices/summary")).json()["open_incidents"] == 0


async def test_a_flapping_device_that_died_keeps_its_incident_until_it_lives(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    await comes_and_goes(doors, db, 4)
    assert await flapping(http)
    told = await incidents(db)
    await passes(db, minutes=61)
    assert not await flapping(http)
    assert await incidents(db) == told
    await doors.signal("a", HEARTBEAT)
    assert await incidents(db) == [*told, "resolved"]


async def test_time_in_which_we_could_not_receive_is_not_calm(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    await comes_and_goes(doors, db, 3)
    await doors.signal("a", HEARTBEAT)
    await db.execute("update canary set received_at = now() - interval '11 s'")
    await db.execute(
        "update presence set changes = array(select at - interval '2 h' from unnest(changes) at)"
    )
    await sweep(db, OFFLINE_AFTER_S)
    assert await flapping(http), "we do not receive"
    await db.execute("update canary set since = now() - interval '10 min', received_at = now()")
    await sweep(db, OFFLINE_AFTER_S)
    assert await flapping(http), "we have been receiving for ten minutes"


async def test_the_history_has_every_change_with_its_reason_and_number(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    await db.execute("update canary set since = since - interval '1 day'")
    await doors.signal("b", HEARTBEAT)
    await comes_and_goes(doors, db, 3)
    history = (await http.get(HISTORY)).json()
    assert [(each["state"], each["reason"]) for each in history] == [
        ("offline", "silent"),
        ("online", "heartbeat"),
    ] * 3
    published = [item for item in await read_feed(db, 0) if item.kind == "presence"]
    assert [each["id"] for each in reversed(history)] == [
        item.id for item in published if item.device_id == "a"
    ]
    assert await all_pages(http, f"{HISTORY}?limit=1") == history
    assert await all_pages(http, f"{HISTORY}?limit=4") == history


async def test_the_history_of_a_range_is_half_open(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    await comes_and_goes(doors, db, 2)
    history = (await http.get(HISTORY)).json()
    first, *_, last = sorted(each["since"] for each in history)
    response = await http.get(HISTORY, params={"from_time": first, "to_time": last})
    assert response.json() == [each for each in history if each["since"] != last]
    assert len(response.json()) == 3


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/devices/nobody/presence/history", 404),
        (f"{HISTORY}?from_time=2026-01-02T00:00Z&to_time=2026-01-02T00:00Z", 422),
        (f"{HISTORY}?cursor=x", 422),
        (f"{HISTORY}?state=online", 422),
    ],
)
async def test_a_wrong_question_for_the_history_is_refused(
    doors: Doors, http: httpx.AsyncClient, path: str, status: int
) -> None:
    await doors.signal("a", HEARTBEAT)
    assert (await http.get(path)).status_code == status


async def test_the_fleet_is_counted_by_state(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    empty = (await http.get("/v1/devices/summary")).json()
    assert empty["total"] == 0
    assert set(empty["states"].values()) == {0}
    for name in "abc":
        await doors.signal(name, HEARTBEAT)
    await passes(db, seconds=303)
    await doors.signal("a", HEARTBEAT)
    await http.put("/v1/devices/d", json={})
    assert (await http.get("/v1/devices/summary")).json() == {
        "total": 4,
        "states": {"never_seen": 1, "online": 1, "asleep": 0, "late": 0, "offline": 2},
        "flapping": 0,
        "open_incidents": 2,
    }


async def test_the_expected_interval_is_shown_with_its_source(
    doors: Doors, db: Connection, http: httpx.AsyncClient
) -> None:
    async def shown() -> Any:
        responses = [(await http.get(f"/v1/devices/a{path}")).json() for path in ("", "/presence")]
        responses += (await http.get("/v1/devices")).json()
        (pair,) = {(response["expected_interval_s"], response["source"]) for response in responses}
        return pair

    await doors.signal("a", HEARTBEAT)
    assert await shown() == (None, "none")
    for _ in range(5):
        await passes(db, seconds=30)
        await doors.signal("a", HEARTBEAT)
    interval, source = await shown()
    assert (round(interval), source) == (30, "learned")
    await http.put("/v1/profiles/p", json={"interval_s": 40})
    await http.put("/v1/devices/a", json={"profile": "p"})
    assert await shown() == (40, "profile")
    await http.put("/v1/devices/a", json={"profile": "p", "interval_s": 50})
    assert await shown() == (50, "device")
    asleep = read_status(b'{"state":"asleep","wake_in_s":3600}')
    assert asleep is not None
    await doors.signal("a", asleep)
    assert await shown() == (3600, "announced")
    await passes(db, seconds=5450)
    assert (await http.get("/v1/devices/a")).json()["state"] == "late"
    assert await shown() == (3600, "announced")
    await doors.signal("a", HEARTBEAT)
    assert await shown() == (50, "device")
