"""Times without offset are of the time zone of their device, over both doors, in every process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from schema.database import Connection, fetch_row
from schema.event import Reason, Status
from schema.instants import rfc3339
from tests.integration.conftest import Doors
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow  # Each test has a database of its own.

TOKYO = timedelta(hours=9)


@pytest.fixture
async def processes(dsn: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(api_on(dsn, f"api {n}")) for n in range(2)]


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def shown(instant: datetime, ahead: timedelta = TOKYO) -> str:
    """What a clock shows that is so far ahead of UTC."""
    return (instant + ahead).replace(tzinfo=None).isoformat()


def event(event_id: str, timestamp: str, **more: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "device_id": "a",
        "metrics": {"x": 1},
        "timestamp": timestamp,
    } | more


async def times(db: Connection) -> dict[str, datetime]:
    return {row["event_id"]: row["ts"] for row in await db.fetch("select event_id, ts from event")}


async def test_a_zone_is_in_force_for_the_next_event_in_every_process_and_over_both_doors(
    processes: list[httpx.AsyncClient], doors: Doors, db: Connection
) -> None:
    at, (first, second) = now(), processes
    for each in (first, second):  # Both know the device from before it has a zone.
        assert (await each.post("/v1/events", json=event("e0", shown(at, timedelta())))).is_success
    early = await second.post("/v1/events", json=event("e1", shown(at)))
    assert (early.status_code, early.json()["reason"]) == (422, "in_the_future")
    assert "without an offset it counts as UTC, because its device has no tz" in early.text
    assert (await first.put("/v1/devices/a", json={"tz": "Asia/Tokyo"})).json()[
        "tz"
    ] == "Asia/Tokyo"
    assert (await second.post("/v1/events", json=event("e1", shown(at)))).json() == {"status": "ok"}
    again = await first.post("/telemetry", json=event("e1", shown(at)))
    assert again.json() == {"status": "duplicate"}, "it has no other time"
    verdicts = await doors.publish(
        "a",
        [
            event("e2", shown(at)), event("e3", rfc3339(at)), event("e4", shown(at + TOKYO)),
            event("e5", shown(at), metrics={"soc_percent": 101}),
        ],
    )  # fmt: skip
    assert [(v.status, v.reason) for v in verdicts] == [
        (Status.STORED, None), (Status.STORED, None), (Status.REJECTED, Reason.IN_THE_FUTURE),
        (Status.REJECTED, Reason.OUT_OF_RANGE),
    ]  # fmt: skip
    assert await times(db) == dict.fromkeys(("e0", "e1", "e2", "e3"), at)
    await first.put("/v1/devices/a", json={})
    batch = [event("e6", shown(at)), event("e7", shown(at), device_id="new")]
    response = await second.post("/v1/events/batch", json=batch)
    assert [item["reason"] for item in response.json()] == ["in_the_future"] * 2
    assert (await second.get("/v1/devices/new")).status_code == 404, (
        "a rejected event makes no device"
    )


async def test_a_replay_reads_the_clock_of_the_present_zone_with_the_first_time_of_arrival(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    at, (http, other) = now(), processes
    await http.put("/v1/devices/a", json={})
    await http.post("/v1/events/batch", json=[event("e1", shown(at)), event("e2", rfc3339(at))])
    arrival = await db.fetchval("select received_at from rejected")
    await other.put("/v1/devices/a", json={"tz": "Asia/Tokyo"})
    replayed = (await http.post("/v1/rejected/replay", json={})).json()
    assert (replayed["stored"], replayed["rejected"]) == (1, 0)
    row = await fetch_row(db, "select ts, received_at from event where event_id = 'e1'")
    assert tuple(row) == (at, arrival)


async def test_times_of_queries_are_utc_whatever_the_zone_of_the_device(
    processes: list[httpx.AsyncClient],
) -> None:
    at, http = now(), processes[0]
    await http.put("/v1/devices/a", json={"tz": "Asia/Tokyo"})
    await http.post("/v1/events", json=event("e1", shown(at)))
    second = timedelta(seconds=1)
    bounds = {"from_time": shown(at, timedelta()), "to_time": shown(at + second, timedelta())}
    found = (await http.get("/v1/devices/a/events", params=bounds)).json()
    assert [each["timestamp"] for each in found] == [rfc3339(at)]


async def test_no_event_is_read_in_two_zones_while_the_zone_changes(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    """Each event has the time of the old or of the new zone, and all are stored."""
    at, (first, second) = now() - TOKYO, processes
    await first.put("/v1/devices/a", json={})

    async def post(http: httpx.AsyncClient, name: str) -> None:
        for n in range(10):
            batch = [event(f"{name}{n}.{k}", shown(at)) for k in range(5)]
            assert {
                item["status"] for item in (await http.post("/v1/events/batch", json=batch)).json()
            } == {"stored"}

    async def change() -> None:
        for n in range(10):
            await first.put("/v1/devices/a", json={"tz": ("Asia/Tokyo", "UTC")[n % 2]})

    await asyncio.gather(post(first, "f"), post(second, "s"), change())
    found = await times(db)
    assert len(found) == 100
    assert set(found.values()) <= {at, at + TOKYO}


async def test_a_resend_after_the_device_got_its_first_zone_is_no_reused_id(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    at, (http, _) = now(), processes
    named = event("e1", shown(at, timedelta()))
    derived = {name: value for name, value in named.items() if name != "event_id"}
    for each in (named, derived):
        assert (await http.post("/v1/events", json=each)).json()["status"] == "ok"
    assert (await http.put("/v1/devices/a", json={"tz": "Europe/Berlin"})).is_success
    for each in (named, derived):
        again = (await http.post("/v1/events", json=each)).json()
        assert (again["status"], again.get("reason")) == ("duplicate", None)
    other = event("e1", shown(at - timedelta(minutes=1), timedelta()))
    assert (await http.post("/v1/events", json=other)).json()["reason"] == "other_content"
