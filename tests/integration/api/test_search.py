"""Search by tags over HTTP, compared with the tags of each event."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.support.http.http_api import all_pages, api_on, next_page

NOW = datetime.now(UTC).replace(microsecond=0)
ODD_TAGS = [
    "it's", "back\\slash", "\\", "'", "''", "a & b", "a | b", "!a", "(a", ":*", "a:*", "räume:ü", " room:1",
    "room:1 ", "<->", "ROOM:1", "\x01", "🔋:1", "x" * 128, "ü" * 128,
]  # fmt: skip

MEANINGLESS = [
    "",
    "?from_time=2026-01-01T00:00:00Z",
    "?tag=",
    "?any_tag=",
    "?tag_prefix=",
    f"?tag_prefix={'x' * 129}",
    "?tag=%00",
    "?tag_prefix=a%00",
    f"?{'&'.join(33 * ['any_tag=a'])}",
    "?tag=a&limit=1001",
    "?tag=a&from_time=2026-01-02T00:00:00Z&to_time=2026-01-02T00:00:00Z",
]


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


def event(n: int, tags: list[str], at: datetime = NOW, device_id: str = "a") -> dict[str, Any]:
    timestamp = at.isoformat()
    return {
        "event_id": f"e{n:04}", "device_id": device_id, "timestamp": timestamp, "metrics": {"x": n},
        "tags": tags,
    }  # fmt: skip


async def found(http: httpx.AsyncClient, **query: Any) -> list[str]:
    response = await http.get(f"/v1/search?{urlencode(query, doseq=True)}")
    assert response.status_code == 200, response.text
    return [row["event_id"] for row in response.json()]


async def test_every_given_kind_of_condition_must_hold(http: httpx.AsyncClient) -> None:
    tags = [["room:1", "v2"], ["room:1"], ["room:2", "v2"], ["hall:1", "v2"], []]
    events = [event(n, carried, NOW - timedelta(seconds=n)) for n, carried in enumerate(tags)]
    await http.post("/v1/events/batch", json=events)
    assert await found(http, tag="room:1") == ["e0000", "e0001"]
    assert await found(http, tag=["room:1", "v2"]) == ["e0000"]
    assert await found(http, any_tag=["room:2", "hall:1"]) == ["e0002", "e0003"]
    assert await found(http, tag_prefix="room:") == ["e0000", "e0001", "e0002"]
    assert await found(http, tag_prefix="room:", tag="v2", any_tag=["room:2", "hall:1"]) == [
        "e0002"
    ]
    assert await found(http, tag="room:") == []
    assert await found(http, tag_prefix="oom") == []


@pytest.mark.slow
async def test_a_tag_with_any_characters_is_found(http: httpx.AsyncClient) -> None:
    batch = [event(n, [tag]) for n, tag in enumerate(ODD_TAGS)]
    response = await http.post("/v1/events/batch", json=batch)
    assert {item["status"] for item in response.json()} == {"stored"}
    for n, tag in enumerate(ODD_TAGS):
        assert await found(http, tag=tag) == [f"e{n:04}"], tag
        assert await found(http, any_tag=tag) == [f"e{n:04}"], tag
        beginning = {f"e{m:04}" for m, other in enumerate(ODD_TAGS) if other.startswith(tag)}
        assert set(await found(http, tag_prefix=tag)) == beginning, tag


async def test_an_invalid_query_is_422(http: httpx.AsyncClient) -> None:
    for query in MEANINGLESS:
        response = await http.get(f"/v1/search{query}")
        assert response.status_code == 422, query
        assert response.json()["detail"]
    detail = (await http.get("/v1/search")).json()["detail"]
    assert all(name in detail for name in ("tag", "any_tag", "tag_prefix"))


async def test_pages_hold_every_event_once_newest_first_also_at_one_instant(
    http: httpx.AsyncClient,
) -> None:
    chance = random.Random(7)
    ages = [timedelta(seconds=chance.choice([0, 0, 1, 60, 3600])) for _ in range(40)]
    ages += [timedelta(days=chance.randrange(700)) for _ in range(40)]
    events = [
        event(n // 2, ["all"], NOW - age, chance.choice("abc") + str(n % 2))
        for n, age in enumerate(ages)
    ]
    response = await http.post("/v1/events/batch", json=events)
    assert {item["status"] for item in response.json()} == {"stored"}
    rows = await all_pages(http, "/v1/search?tag=all&limit=7")
    keys = [(row["timestamp"], row["event_id"]) for row in rows]
    assert keys == sorted(keys, reverse=True)
    sent = {(item["device_id"], item["event_id"]) for item in events}
    assert {(row["device_id"], row["event_id"]) for row in rows} == sent
    assert len(rows) == len(sent)


async def test_a_range_holds_its_first_instant_and_not_its_last(http: httpx.AsyncClient) -> None:
    ages = [0, 100, 200, 300]
    await http.post(
        "/v1/events/batch",
        json=[event(n, ["r"], NOW - timedelta(days=age)) for n, age in enumerate(ages)],
    )
    first, last = ((NOW - timedelta(days=age)).strftime("%Y-%m-%dT%H:%M:%SZ") for age in (200, 100))
    assert await found(http, tag="r", from_time=first, to_time=last) == ["e0002"]
    assert await found(http, tag="r", from_time=first) == ["e0000", "e0001", "e0002"]
    assert await found(http, tag="r", to_time=last) == ["e0002", "e0003"]


async def test_a_cursor_belongs_to_the_whole_query(http: httpx.AsyncClient) -> None:
    await http.post("/v1/events/batch", json=[event(n, ["a", "b"]) for n in range(3)])
    following = next_page(await http.get("/v1/search?tag=a&limit=1"))
    assert following is not None
    assert (await http.get(following)).json()[0]["event_id"] == "e0001"
    assert (await http.get(following.replace("limit=1", "limit=2"))).status_code == 200
    for other in ("any_tag=a", "tag=b", "tag_prefix=a", "tag=a&any_tag=b", "tag=a&tag_prefix=b"):
        assert (await http.get(following.replace("tag=a", other, 1))).status_code == 422
    later = f"&from_time={NOW:%Y-%m-%dT%H:%M:%SZ}"
    assert (await http.get(following + later)).status_code == 422
