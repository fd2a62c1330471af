"""The newest value of each metric, of one device and of many, from rollups, open hours and marked hours."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from scheduler.rollups import roll
from schema.database import Connection
from schema.instants import rfc3339
from tests.support.http.http_api import all_pages, api_on

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def send(http: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
    response = await http.post("/v1/events/batch", json=events)
    assert {item["status"] for item in response.json()} == {"stored"}


def event(event_id: str, at: datetime, device_id: str = "a", /, **metrics: float) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "device_id": device_id,
        "timestamp": rfc3339(at),
        "metrics": metrics,
    }


async def latest(http: httpx.AsyncClient) -> dict[str, Any]:
    response = await http.get("/v1/devices/a/latest")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert body["device_id"] == "a"
    metrics: dict[str, Any] = body["metrics"]
    return metrics


def newest(events: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in sorted(events, key=lambda sent: (sent["timestamp"], sent["event_id"])):
        for name, value in each["metrics"].items():
            found[name] = {
                "value": value,
                "timestamp": each["timestamp"],
                "event_id": each["event_id"],
            }
    return found


async def test_the_newest_by_time_and_event_id_of_each_metric(http: httpx.AsyncClient) -> None:
    events = [
        event("e1", NOW, temp=1, soc_percent=50.5),
        event("e3", NOW, temp=3),
        event("e2", NOW, temp=2, voltage_v=300),
        event("e4", NOW - timedelta(days=200), temp=4, rare=1e-300),
    ]
    await send(http, events)
    assert await latest(http) == newest(events)
    assert '"value":3,' in (await http.get("/v1/devices/a/latest")).text


async def test_small_numbers_have_the_same_form_for_one_device_and_for_many(
    http: httpx.AsyncClient,
) -> None:
    await send(http, [event("e", NOW, x=1.23456789e-5, y=0.00005)])
    for path in ("/v1/devices/a/latest", "/v1/latest"):
        shown = (await http.get(path)).text
        assert '"value":1.23456789e-05,' in shown
        assert '"value":0.00005,' in shown


async def test_an_unknown_device_is_404_and_one_without_events_has_no_metrics(
    http: httpx.AsyncClient, db: Connection
) -> None:
    assert (await http.get("/v1/devices/a/latest")).status_code == 404
    await db.execute("insert into device (device_id) values ('a')")
    assert await latest(http) == {}


async def test_a_value_outlives_its_raw_event(http: httpx.AsyncClient, db: Connection) -> None:
    events = [event("e1", NOW - timedelta(days=60), temp=7), event("e2", NOW, soc_percent=9)]
    await send(http, events)
    await roll(db)
    await db.execute("update rollup_state set floor = $1", NOW - timedelta(days=31))
    await db.execute("delete from event where ts < $1", NOW - timedelta(days=31))
    assert await latest(http) == newest(events)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_late_events_count_however_far_the_rollups_lag(
    http: httpx.AsyncClient, db: Connection, seed: int
) -> None:
    chance = random.Random(seed)
    sent: list[dict[str, Any]] = []
    closing = NOW.replace(minute=0, second=0) - timedelta(hours=40)
    await db.execute("update rollup_state set closing = $1, closed = $1", closing)
    for step in range(12):
        for n in range(chance.randint(1, 6)):
            at = NOW - timedelta(hours=chance.randint(0, 60), minutes=chance.choice([0, 0, 30]))
            names = chance.sample(["a", "b", "c", "d", "e"], chance.randint(1, 2))
            sent.append(event(f"{step:02}-{n}", at, **{name: chance.random() for name in names}))
            await send(http, sent[-1:])
        assert await latest(http) == newest(sent)
        if chance.random() < 0.4:
            closing += HOUR * chance.randint(0, 8)
            await roll(db, closing)
            assert await latest(http) == newest(sent)


async def test_a_restored_database_with_an_earlier_closed_hour_hides_no_event(
    http: httpx.AsyncClient, db: Connection
) -> None:
    events = [event("e1", NOW - timedelta(days=3), temp=7, rare=1), event("e2", NOW, temp=8)]
    await send(http, events)
    await db.execute("update rollup_state set closing = $1, closed = $1", NOW)
    await latest(http)  # From now on the API remembers the hour.
    earlier = NOW - timedelta(days=4)
    await db.execute("update rollup_state set closing = $1, closed = $1", earlier)
    assert await latest(http) == newest(events)


async def test_events_of_a_device_are_paged_over_all_windows_with_unusual_numbers(
    http: httpx.AsyncClient,
) -> None:
    days = (0, 0, 3, 30, 200)
    values = (1e16, 40.25, 1e-9, 7, 1e300)
    sent = [
        event(f"e{n}", NOW - timedelta(days=day), x=value)
        for n, (day, value) in enumerate(zip(days, values, strict=True))
    ]
    await send(http, sent)
    whole = await http.get("/v1/devices/a/events")
    assert whole.text.startswith('[{"event_id":"e1","device_id":"a",')
    assert [shown["event_id"] for shown in whole.json()] == ["e1", "e0", "e2", "e3", "e4"]
    assert {shown["event_id"]: shown["metrics"] for shown in whole.json()} == {
        each["event_id"]: each["metrics"] for each in sent
    }
    for form in ('{"x":1e+16}', '{"x":40.25}', '{"x":1e-09}', '{"x":7}', '{"x":1e+300}'):
        assert form in whole.text
    for limit in (1, 2, 3):
        assert await all_pages(http, f"/v1/devices/a/events?limit={limit}") == whole.json()
    assert (await http.get("/v1/devices/b/events")).status_code == 404


async def many(http: httpx.AsyncClient, query: str = "") -> dict[str, Any]:
    rows = await all_pages(http, f"/v1/latest?{query}")
    assert [row["device_id"] for row in rows] == sorted(row["device_id"] for row in rows)
    return {row["device_id"]: row["metrics"] for row in rows}


async def test_many_devices_are_listed_by_filters_and_pages(
    http: httpx.AsyncClient, db: Connection
) -> None:
    sent = {
        name: [event("e1", NOW - HOUR, name, temp=n), event("e2", NOW, name, soc_percent=n)]
        for n, name in enumerate("abcd")
    }
    await send(http, [each for events in sent.values() for each in events])
    await roll(db)
    for name in "bcd":
        body = {"name": f"Truck {name}", "tags": ["fleet:1", f"truck:{name}"]}
        await http.put(f"/v1/devices/{name}", json=body)
    await http.put("/v1/devices/e", json={})
    everything = {name: newest(events) for name, events in sent.items()} | {"e": {}}
    assert await many(http) == everything
    assert await many(http, "limit=2") == everything
    temps = {name: {k: v for k, v in of.items() if k == "temp"} for name, of in everything.items()}
    assert await many(http, "metric=temp&metric=nothing") == temps
    for query, names in (
        ("device_id=a&device_id=c&device_id=nobody", "ac"),
        ("device_tag=fleet:1&limit=1", "bcd"),
        ("device_tag=fleet:1&device_tag=truck:b", "b"),
        ("state=never_seen", "e"),
        ("state=never_seen&state=online", "abcde"),
        ("q=TRUCK", "bcd"),
        ("device_tag=nothing", ""),
    ):
        assert await many(http, query) == {name: everything[name] for name in names}, query


async def test_a_list_of_devices_carries_their_values_if_asked_to(http: httpx.AsyncClient) -> None:
    await send(http, [event("e1", NOW, name, temp=1) for name in "ab"])
    await http.put("/v1/devices/c", json={})
    plain = await all_pages(http, "/v1/devices?latest=false")
    shown = await all_pages(http, "/v1/devices?latest=true&limit=1")
    values = await many(http)
    assert plain == await all_pages(http, "/v1/devices")
    assert shown == [row | {"latest": values[row["device_id"]]} for row in plain]
    assert values["c"] == {}


async def test_a_list_shows_events_of_long_ago_at_once(
    http: httpx.AsyncClient, db: Connection
) -> None:
    sent = [event(f"e{n}", NOW - timedelta(days=200) + n * HOUR, temp=n) for n in range(3)]
    await send(http, [*sent, event("f", NOW - timedelta(days=300), rare=5)])
    assert (await many(http))["a"] == newest([*sent, event("f", NOW - timedelta(days=300), rare=5)])
    await roll(db)
    await send(http, [event("e9", NOW - timedelta(days=200) + 2 * HOUR, temp=9)])
    assert (await many(http))["a"]["temp"]["value"] == 9


async def test_wrong_filters_of_many_devices_are_422(http: httpx.AsyncClient) -> None:
    for query in ("state=dead", "metric=", "device_tag=%00", "q=%00", "limit=1001", "tag=x"):
        assert (await http.get(f"/v1/latest?{query}")).status_code == 422, query
    await send(http, [event("e1", NOW, name, temp=1) for name in "ab"])
    link = (await http.get("/v1/latest?limit=1")).links["next"]["url"]
    assert (await http.get(f"{link}&metric=temp")).status_code == 422


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_many_devices_show_the_values_of_each_one_however_far_the_rollups_lag(
    http: httpx.AsyncClient, db: Connection, seed: int
) -> None:
    chance = random.Random(seed)
    closing = NOW.replace(minute=0, second=0) - timedelta(hours=40)
    await db.execute("update rollup_state set closing = $1, closed = $1", closing)
    for step in range(6):
        await send(
            http,
            [
                event(
                    f"{step}-{n}",
                    NOW - timedelta(hours=chance.randint(0, 60), minutes=chance.choice([0, 0, 30])),
                    chance.choice("abc"),
                    **{
                        name: chance.random()
                        for name in chance.sample("vwxyz", chance.randint(1, 2))
                    },
                )
                for n in range(20)
            ],
        )
        await many_show_each(http)
        closing += HOUR * chance.randint(0, 8)
        await roll(db, closing)
        await many_show_each(http)


async def many_show_each(http: httpx.AsyncClient) -> None:
    for device_id, shown in (await many(http)).items():
        one = (await http.get(f"/v1/devices/{device_id}/latest")).json()
        assert shown == one["metrics"]
