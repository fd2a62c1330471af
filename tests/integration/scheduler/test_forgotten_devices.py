"""Devices that are deleted: what goes, what stays, and that no alarm follows before they speak again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from ingestor.decode.presence import HEARTBEAT, WILL, read_status
from scheduler.relay import messages, queries
from scheduler.rollups import roll
from scheduler.silence import sweep
from schema import deleted_devices
from schema.deleted_devices import delete_events_of_deleted_devices
from schema.feed import FeedItem, read_feed
from tests.integration.conftest import Doors
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow

OFFLINE_AFTER_S = 300
HEAR = "insert into canary values ('test', now() - interval '1 day', now() + interval '1 day')"
TABLES = ("event", "event_key", "rollup", "rollup_mark")


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def silent_for(db: Any, seconds: float) -> int:
    """The number of devices that the sweep changes after so long a silence."""
    await db.execute(
        f"update presence set last_seen = last_seen - interval '{seconds} s',"
        f" will_at = will_at - interval '{seconds} s',"
        f" check_at = check_at - interval '{seconds} s'"
    )
    return await sweep(db, OFFLINE_AFTER_S)


async def retained(db: Any) -> dict[str, Any]:
    """What a broker retains after everything in the feed was published, in order."""
    published = [each for item in await read_feed(db, 0) for each in messages(item)]
    topics = {topic: payload for topic, payload, retain in published if retain}
    return {topic: msgspec.json.decode(payload) for topic, payload in topics.items() if payload}


async def republished(db: Any) -> set[str]:
    rows = [
        *await db.fetch(queries.firing_alerts),
        *await db.fetch(queries.latest_presence, "", 100),
    ]
    return {f"{row['kind']} {row['device_id']}" for row in rows}


async def newest(db: Any) -> FeedItem:
    return (await read_feed(db, 0))[-1]


def event(number: int, device_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "device_id": device_id, "metrics": {"temp": 40}} | more


async def test_no_alarm_follows_the_deletion_of_a_device_before_it_speaks_again(
    doors: Doors, http: httpx.AsyncClient, db: Any
) -> None:
    await db.execute(HEAR)
    await doors.post(event(1))
    assert (await http.delete("/v1/devices/a")).status_code == 204
    assert await silent_for(db, 1000) == 0
    await doors.signal("a", WILL)
    assert await silent_for(db, 1000) == 0
    assert await retained(db) == {}
    await doors.post(event(2))
    assert (await http.get("/v1/devices/a")).json()["state"] == "online"
    assert await silent_for(db, 1000) == 1
    assert set(await retained(db)) == {"presence/a", "alerts/a/silent"}


async def test_a_device_with_events_is_listed_as_forgotten(
    doors: Doors, http: httpx.AsyncClient, db: Any
) -> None:
    status = read_status(b'{"state":"online","receipts":true}')
    assert status is not None
    await doors.signal("a", status)
    await doors.post(event(1))
    registered: dict[str, Any] = {"name": "n", "tags": ["x"], "interval_s": 5, "tz": "Asia/Tokyo"}
    await http.put("/v1/devices/a", json=registered | {"attributes": {"model": "X"}})
    before = datetime.now(UTC)
    assert (await http.delete("/v1/devices/a")).status_code == 204
    shown = (await http.get("/v1/devices/a")).json()
    assert {name: shown[name] for name in [*registered, "attributes", "registered"]} == {
        "name": None, "tags": [], "interval_s": None, "tz": None, "attributes": {}, "registered": False,
    }  # fmt: skip
    assert (shown["state"], shown["reason"], shown["last_seen"]) == (
        "never_seen",
        "forgotten",
        None,
    )
    assert datetime.fromisoformat(shown["since"]) >= before
    assert not await db.fetchval("select receipts from device")
    item = await newest(db)
    assert (item.kind, item.state) == ("presence", "never_seen")
    assert msgspec.json.decode(item.body)["reason"] == "forgotten"
    assert (await http.delete("/v1/devices/a")).status_code == 204
    assert (await newest(db)).id == item.id
    assert (await http.get("/v1/devices/a")).json()["since"] == shown["since"]
    assert len((await http.get("/v1/devices/a/events")).json()) == 1


@pytest.mark.parametrize("how", ["heartbeat", "asleep", "will", "registration", "rejected"])
async def test_a_device_without_events_is_gone(
    doors: Doors, http: httpx.AsyncClient, db: Any, how: str
) -> None:
    match how:
        case "heartbeat":
            await doors.signal("a", HEARTBEAT)
        case "asleep":
            status = read_status(b"asleep")
            assert status is not None
            await doors.signal("a", status)
        case "will":
            await doors.signal("a", WILL)
        case _:
            await http.put("/v1/devices/a", json={"name": "n"})
    if how == "rejected":
        await doors.post(event(1, metrics={"soc_percent": 101}))
    assert (await http.delete("/v1/devices/a")).status_code == 204
    for path in ("", "/presence", "/events", "/latest"):
        assert (await http.get(f"/v1/devices/a{path}")).status_code == 404
    assert (await http.delete("/v1/devices/a")).status_code == 404
    assert (await http.get("/v1/devices")).json() == []
    assert await retained(db) == {}
    assert await republished(db) == set()
    await doors.signal("a", HEARTBEAT)
    assert (await http.get("/v1/devices/a")).json()["state"] == "online"
    assert set(await retained(db)) == {"presence/a"}
    assert await republished(db) == {"presence a"}


async def test_open_incidents_of_a_forgotten_device_resolve_and_its_topics_are_emptied(
    doors: Doors, http: httpx.AsyncClient, db: Any
) -> None:
    await db.execute(HEAR)
    rule = {"metric": "temp", "op": ">", "threshold": 30}
    await http.post("/v1/alerts", json=rule)
    for device_id in ("a", "b"):
        await doors.post(event(1, device_id))
    assert await silent_for(db, 1000) == 2
    assert len(await retained(db)) == 6
    assert await republished(db) == {
        f"{kind} {name}" for kind in ("alert", "presence") for name in "ab"
    }
    await http.delete("/v1/devices/a")
    assert set(await retained(db)) == {"presence/b", "alerts/b/r1", "alerts/b/silent"}
    assert await republished(db) == {"alert b", "presence b"}
    rows = await db.fetch(
        "select device_id, resolved_at is null as open from incident join device using (device_no)"
    )
    assert sorted(map(tuple, rows)) == [("a", False)] * 2 + [("b", True)] * 2
    assert await db.fetchval("select count(*) from alert_state") == 1
    await doors.post(event(2))
    assert "alerts/a/r1" in await retained(db)


async def test_a_sweep_beside_a_deletion_leaves_no_incident_open(
    doors: Doors, http: httpx.AsyncClient, db: Any
) -> None:
    await db.execute(HEAR)
    for n in range(10):
        await doors.post(event(1))
        await db.execute(
            "update presence set last_seen = now() - interval '1000 s', check_at = '-infinity'"
        )
        await asyncio.gather(sweep(db, OFFLINE_AFTER_S), http.delete("/v1/devices/a"))
        assert (await http.get("/v1/devices/a")).json()["state"] == "never_seen"
        assert await db.fetchval("select count(*) from incident where resolved_at is null") == 0, n
        assert await retained(db) == {}


async def test_with_its_events_a_device_leaves_nothing(
    doors: Doors, http: httpx.AsyncClient, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_devices, "PIECE_ROWS_MAX", 7)
    months = [f"2026-{month:02}-01T00:00:00Z" for month in (1, 2, 3)]
    for device_id in ("a", "b"):
        for at in months:
            events = [event(n, device_id, event_id=f"{at}{n}", timestamp=at) for n in range(20)]
            await doors.publish(device_id, events)
    await roll(db)
    await doors.post(event(0, timestamp=months[0]))
    counts = {table: await db.fetchval(f"select count(*) from {table}") for table in TABLES}
    assert (counts["event"], counts["rollup_mark"]) == (121, 1)
    assert (await http.delete("/v1/devices/a?events=true")).status_code == 204
    assert (await http.get("/v1/devices/a")).status_code == 404
    left = {table: await db.fetchval(f"select count(*) from {table}") for table in TABLES}
    assert left == {"event": 60, "event_key": 60, "rollup": counts["rollup"] // 2, "rollup_mark": 0}
    query = f"metric=temp&from_time={months[0]}&to_time=2026-04-01T00:00:00Z&interval=365d"
    (row,) = (await http.get(f"/v1/metrics/aggregate?{query}")).json()
    assert row["count"] == 60
    assert (await doors.post(event(0, timestamp=months[0])))[0].status == "stored"
    assert len((await http.get("/v1/devices/a/events")).json()) == 1
    assert len((await http.get("/v1/devices/b/events")).json()) == 60


async def test_a_forgotten_device_may_lose_its_events_later(
    doors: Doors, http: httpx.AsyncClient
) -> None:
    await doors.post(event(1))
    assert (await http.delete("/v1/devices/a?events=false")).status_code == 204
    assert (await http.get("/v1/devices/a")).status_code == 200
    assert (await http.delete("/v1/devices/a?events=true")).status_code == 204
    assert (await http.get("/v1/devices/a")).status_code == 404
    assert (await http.delete("/v1/devices/a?events=perhaps")).status_code == 422


async def test_the_scheduler_deletes_what_a_request_had_no_time_for(
    doors: Doors, http: httpx.AsyncClient, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.store.registry.DELETE_EVENTS_S_MAX", 0.0)
    await doors.publish("a", [event(n) for n in range(50)])
    assert (await http.delete("/v1/devices/a?events=true")).status_code == 204
    assert await db.fetchval("select count(*) from event") == 50
    assert (await http.get("/v1/devices/a/events")).status_code == 404
    await doors.post(event(1))
    await delete_events_of_deleted_devices(db)
    assert await db.fetchval("select count(*) from event") == 1
    assert await db.fetchval("select count(*) from deleted_device") == 1
    await db.execute("update deleted_device set deleted_at = now() - interval '11 min'")
    await delete_events_of_deleted_devices(db)
    assert await db.fetchval("select count(*) from deleted_device") == 0
    assert await db.fetchval("select count(*) from event") == 1


async def test_events_received_beside_a_deletion_are_stored_once_or_deleted(
    doors: Doors, http: httpx.AsyncClient, db: Any
) -> None:
    """Whatever comes after the last response is there; every event has its key."""
    for n in range(15):
        posts = [doors.post(event(n * 100 + at)) for at in range(20)]
        path = f"/v1/devices/a?events={'true' if n % 2 else 'false'}"
        await asyncio.gather(*posts, http.delete(path))
    await http.delete("/v1/devices/a?events=true")
    assert await db.fetchval("select count(*) from event") == 0
    assert await db.fetchval("select count(*) from event_key") == 0
    await doors.post(event(1))
    assert len((await http.get("/v1/devices/a/events")).json()) == 1
