"""How many dead letters there are per reason."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from schema.database import Connection
from tests.support.http.http_api import api_on


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def reject(http: httpx.AsyncClient, device_id: str, *bodies: dict[str, Any]) -> None:
    events = [{"device_id": device_id, "metrics": {"temp": 1}} | body for body in bodies]
    response = await http.post("/v1/events/batch", json=events)
    assert {item["status"] for item in response.json()} == {"rejected"}


async def summary(http: httpx.AsyncClient, query: str = "") -> dict[str, Any]:
    response = await http.get(f"/v1/rejected/summary?{query}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_dead_letters_are_counted_per_reason(http: httpx.AsyncClient, db: Connection) -> None:
    nothing = {"total": 0, "replayed": 0, "reasons": {}}
    assert await summary(http) == nothing
    await reject(http, "a", {"seq": -1}, {"timestamp": "noon"}, {"timestamp": "midnight"})
    await reject(http, "b", {"seq": -1})
    await db.execute("update rejected set replayed_at = now() where device_id = 'b'")
    both = {"bad_seq": 2, "bad_time": 2}
    assert await summary(http) == {"total": 4, "replayed": 1, "reasons": both}
    of_a = await summary(http, "device_id=a&door=http")
    assert of_a == {"total": 3, "replayed": 0, "reasons": {"bad_time": 2, "bad_seq": 1}}
    assert list(of_a["reasons"]) == ["bad_time", "bad_seq"]
    for query in ("device_id=c", "door=mqtt", "to_time=2020-01-01T00:00:00Z"):
        assert await summary(http, query) == nothing
    for query in ("door=window", "device_id=%00", "from_time=noon", "reason=bad_time"):
        assert (await http.get(f"/v1/rejected/summary?{query}")).status_code == 422
