"""One stream for a page: the newest event of each device, presence and alerts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest

from api.latest.live import FLEET_DEVICES_MAX
from api.routes.streams.live import live_frames
from api.services import Services
from schema.database import Connection
from schema.instants import rfc3339
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow  # A frame a second.

UNTIL_S_MAX = 30
NOW = datetime.now(UTC).replace(microsecond=0)
Frame = tuple[str, Any]


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


class Live:
    """What a stream sends: (type of the event, data). The tests' transport cannot show it as it comes."""

    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        self._frames, self._waiting = frames, list[Frame]()

    async def next(self) -> Frame:
        async with asyncio.timeout(UNTIL_S_MAX):
            while not self._waiting:
                text = (await anext(self._frames)).decode()
                self._waiting += map(parsed, filter(is_event, text.split("\n\n")))
        return self._waiting.pop(0)

    async def newest(self) -> dict[str, Any]:
        kind, events = await self.next()
        assert kind == "latest"
        return {event["device_id"]: event for event in events}


def is_event(text: str) -> bool:
    return bool(text) and not text.startswith(":")


def parsed(text: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in text.split("\n"))
    assert ("id" in fields) == (fields["event"] != "latest")
    return fields["event"], json.loads(fields["data"])


@asynccontextmanager
async def live(
    http: httpx.AsyncClient, *device_ids: str, latest: bool = True
) -> AsyncIterator[Live]:
    services = cast("Services", cast("Any", http).services)
    wanted = frozenset(device_ids) or None
    reader = services.latest_events
    after = await services.feed.newest()
    with reader.watching(wanted) as watch:
        await reader.begin(watch)
        frames = live_frames(
            services.feed,
            after,
            lambda item: not latest and item.device_id in device_ids,
            reader,
            watch if latest else None,
            lambda: True,
        )
        yield Live(frames)


async def send(http: httpx.AsyncClient, *events: dict[str, Any]) -> None:
    response = await http.post("/v1/events/batch", json=events)
    assert {item["status"] for item in response.json()} == {"stored"}


def event(event_id: str, device_id: str, at: datetime = NOW, temp: float = 1) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "device_id": device_id,
        "timestamp": rfc3339(at),
        "metrics": {"temp": temp},
    }


async def test_a_stream_begins_with_the_newest_event_of_every_device(
    http: httpx.AsyncClient,
) -> None:
    long_ago = NOW - timedelta(days=200)
    await send(http, event("e1", "a"), event("e2", "a"), event("e1", "b", long_ago))
    async with live(http) as stream:
        found = await stream.newest()
    shown = {
        name: (await http.get(f"/v1/devices/{name}/events?limit=1")).json()[0] for name in "ab"
    }
    assert found == shown


async def test_only_devices_that_changed_are_sent_then_and_never_an_older_event(
    http: httpx.AsyncClient,
) -> None:
    await send(http, event("e1", "a"), event("e1", "b"), event("e1", "c"))
    async with live(http) as stream:
        assert len(await stream.newest()) == 3
        await send(http, event("old", "a", NOW - timedelta(hours=1)), event("e0", "c"))
        await send(http, event("e2", "b"), event("e1", "new"))
        found = await stream.newest()
        assert {name: each["event_id"] for name, each in found.items()} == {"b": "e2", "new": "e1"}
        await send(http, event("e3", "a", NOW + timedelta(seconds=1)))
        assert list(await stream.newest()) == ["a"]


async def test_a_device_that_was_forgotten_is_shown_when_it_speaks_again_with_an_older_time(
    http: httpx.AsyncClient,
) -> None:
    await send(http, event("e1", "a"))
    async with live(http) as stream:
        await stream.newest()
        assert (await http.delete("/v1/devices/a?events=true")).status_code == 204
        await send(http, event("e0", "a", NOW - timedelta(hours=1)))
        assert (await stream.newest())["a"]["event_id"] == "e0"


async def test_streams_see_their_own_devices_alone(http: httpx.AsyncClient) -> None:
    await send(http, event("e1", "a"), event("e1", "b"))
    async with live(http, "a") as of_a, live(http, "b", "later") as of_b, live(http) as of_all:
        assert list(await of_a.newest()) == ["a"]
        assert list(await of_b.newest()) == ["b"]
        assert sorted(await of_all.newest()) == ["a", "b"]
        await send(http, event("e2", "b"), event("e1", "later"))
        assert sorted(await of_b.newest()) == ["b", "later"]
        assert sorted(await of_all.newest()) == ["b", "later"]
        await send(http, event("e2", "a"))
        assert (await of_a.newest())["a"]["event_id"] == "e2"


async def test_nothing_is_read_or_kept_while_nobody_watches(http: httpx.AsyncClient) -> None:
    await send(http, event("e1", "a"), event("e1", "b"))
    reader = cast("Services", cast("Any", http).services).latest_events
    async with live(http, "a"):
        async with live(http):
            assert sorted(reader._newest) == ["a", "b"]
        assert list(reader._newest) == ["a"]
    assert not reader._newest
    assert not reader._watched.is_set()


async def test_alerts_and_presence_have_types_of_their_own(
    http: httpx.AsyncClient, db: Connection
) -> None:
    rule = {"metric": "temp", "op": ">", "threshold": 10, "notify": "change"}
    assert (await http.post("/v1/alerts", json=rule)).status_code == 201
    async with live(http, "a", latest=False) as stream:
        await send(http, event("e1", "a", temp=11))
        await send(http, event("e2", "a", NOW + timedelta(seconds=1), temp=9))
        found = [await stream.next() for _ in range(3)]
    assert [kind for kind, _ in found] == ["presence", "alert", "resolved"] or [
        kind for kind, _ in found
    ] == ["alert", "presence", "resolved"]
    assert all(body["device_id"] == "a" for _, body in found)


async def test_newest_events_of_a_large_fleet_need_device_ids(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await db.execute(
        "insert into device (device_id) select 'd' || n from generate_series(0, $1::int) n",
        FLEET_DEVICES_MAX,
    )
    response = await http.get("/v1/live?topics=latest,alerts")
    assert response.status_code == 422
    assert "device_id" in response.json()["detail"]
    async with live(http, "d1") as stream:
        await send(http, event("e1", "d1"))
        while not (found := await stream.newest()):
            pass
        assert list(found) == ["d1"]


async def test_wrong_parameters_are_422(http: httpx.AsyncClient) -> None:
    many = "&".join(f"device_id=d{n}" for n in range(201))
    for query in ("topics=", "topics=latest,weather", "device_id=", many, "last_event_id=x"):
        assert (await http.get(f"/v1/live?{query}")).status_code == 422, query
