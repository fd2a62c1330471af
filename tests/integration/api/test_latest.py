"""The newest value of each metric, whether in rollups, in open hours or in marked hours."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from scheduler.rollups import roll
from schema.database import Connection
from schema.instants import rfc3339
from tests.support.http_api import api_on

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def send(http: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
    answer = await http.post("/v1/events/batch", json=events)
    assert {item["status"] for item in answer.json()} == {"stored"}


def event(event_id: str, at: datetime, **metrics: float) -> dict[str, Any]:
    return {"event_id": event_id, "device_id": "a", "timestamp": rfc3339(at), "metrics": metrics}


async def latest(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.get("/v1/devices/a/latest")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
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
