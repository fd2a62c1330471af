"""Values made to be read as SQL, as a pattern or as a huge question are texts and numbers like any other."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from schema.database import API_SESSION, Connection
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow

INJECTIONS = (
    "temp') or 1=1--",
    "x'; drop table event_key; drop table rejected; --",
    "x'; create table injected (x int); select pg_sleep(60); --",
    "%' or '1'='1",
    "1m'); delete from event; --",
    "$1; truncate event_key",
    '"; drop table device cascade; --',
    "\\'; drop table rule; --",
)
VALID = {
    "from_time": "2026-02-01T00:00:00Z", "to_time": "2026-02-02T00:00:00Z", "interval": "1h",
    "start_time": "2026-02-01T00:00:00Z", "end_time": "2026-02-02T00:00:00Z", "metric": "x",
    "date": "2026-02-01", "tag": "x", "format": "csv",
}  # fmt: skip
TIMES = {"from_time": "2016-01-01T00:00:00Z", "to_time": "2026-01-01T00:00:00Z"}
COSTLY: list[tuple[str, dict[str, Any]]] = [
    ("/v1/metrics/aggregate", TIMES | {"metric": "x", "interval": "1ms"}),
    ("/v1/metrics/aggregate", TIMES | {"metric": "x", "interval": "1s", "fill": "null"}),
    ("/v1/metrics/aggregate", TIMES | {"metric": "x", "interval": "99999999999999999999d"}),
    ("/v1/devices/a/events", {"limit": "1000000000"}),
    ("/v1/devices/a/events", {"limit": "1e9"}),
    ("/v1/devices/a/events", {"offset": "1000000000"}),
    ("/v1/devices", {"limit": "1000000000"}),
    ("/v1/search", {"tag": "x", "limit": "1000000000"}),
    ("/v1/search", {"tag": "x", "offset": "1000000000"}),
    ("/v1/rejected", {"limit": "1000000000"}),
    ("/devices/a/metrics", {"start_time": "2016-01-01Z", "end_time": "2026-01-01Z"}),
]
PLACE = re.compile(r"\{[^}]*\}")
AT_ONCE = 4  # More exports or costly queries would be refused with 503.
PATTERNS = ("%", "_", "%room%", "room:_", "((((a+)+)+)+)$", ".*", "room:*", "room:1' | 'hall")


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def contents(db: Connection) -> list[tuple[str, int]]:
    """Every table with the number of its rows, but for what an idle system changes."""
    names = await db.fetch(
        "select oid::regclass::text as name from pg_class where relkind in ('r', 'p')"
        " and relnamespace = 'public'::regnamespace and relname !~ '^event_2' order by 1"
    )
    return [
        (row["name"], await db.fetchval(f"select count(*) from {row['name']}")) for row in names
    ]


async def queries(http: httpx.AsyncClient) -> list[tuple[str, dict[str, str]]]:
    """Every injection in every parameter of every GET route, beside valid values."""
    found = []
    for path, methods in (await http.get("/openapi.json")).json()["paths"].items():
        if "get" not in methods or path.endswith(("/stream", "/v1/live")):
            continue
        named = [each for each in methods["get"].get("parameters", ()) if each["in"] == "query"]
        needed = {each["name"]: VALID[each["name"]] for each in named if each["required"]}
        inside = PLACE.sub("a", path)
        for text in INJECTIONS:
            found += [(inside, needed | {each["name"]: text}) for each in named]
            if inside != path:
                found.append((PLACE.sub(quote(text, safe=""), path), needed))
    return found


async def test_no_parameter_reaches_the_database_as_sql(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await http.post("/v1/events", json={"event_id": "1", "device_id": "a", "metrics": {"x": 1}})
    before = await contents(db)
    asked = await queries(http)
    assert len(asked) > 200
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        responses = await asyncio.gather(*(http.get(path, params=query) for path, query in some))
        for question, response in zip(some, responses, strict=True):
            assert response.status_code in {200, 404, 422}, (question, response.text)
    assert await contents(db) == before


async def test_what_a_device_sends_is_stored_as_text(
    http: httpx.AsyncClient, db: Connection
) -> None:
    tags = [text for text in INJECTIONS if len(text) <= 128]
    sent = {"event_id": INJECTIONS[0], "device_id": "a", "metrics": {"x": 1}, "tags": tags}
    assert (await http.post("/v1/events", json=sent)).status_code == 200
    (found,) = (await http.get("/v1/devices/a/events")).json()
    assert (found["event_id"], found["tags"]) == (INJECTIONS[0], tags)
    for text in tags:
        assert len((await http.get("/v1/search", params={"tag": text})).json()) == 1
    for name in ("device_id", "metrics"):
        value: Any = {INJECTIONS[1]: 1} if name == "metrics" else INJECTIONS[1]
        refused = await http.post("/v1/events", json=sent | {"event_id": "2", name: value})
        assert refused.status_code == 422
    assert "event_key" in dict(await contents(db))


async def test_a_pattern_is_no_pattern(http: httpx.AsyncClient) -> None:
    event = {"event_id": "1", "device_id": "a", "metrics": {"x": 1}, "tags": ["room:1", "aaaa"]}
    await http.post("/v1/events", json=event)
    await http.put("/v1/devices/a", json={"tags": ["room:1"], "name": "aaaa"})
    for text in PATTERNS:
        for path, name in (
            ("/v1/search", "tag"), ("/v1/search", "any_tag"), ("/v1/search", "tag_prefix"),
            ("/v1/devices", "q"), ("/v1/devices", "tag"),
        ):  # fmt: skip
            response = await http.get(path, params={name: text})
            assert (response.status_code, response.json()) == (200, []), (path, name, text)


async def test_a_huge_question_is_refused_before_it_is_asked(http: httpx.AsyncClient) -> None:
    await http.post("/v1/events", json={"event_id": "1", "device_id": "a", "metrics": {"x": 1}})
    for path, query in COSTLY:
        response = await http.get(path, params=query)
        assert response.status_code == 422, (path, query, response.text)


async def test_the_database_ends_a_query_of_the_api_that_takes_too_long(
    dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(API_SESSION, "statement_timeout", "300ms")
    async with api_on(dsn) as http, db.transaction():
        await db.execute("lock table event in access exclusive mode")
        response = await http.get("/v1/search", params={"tag": "x"})
    assert (response.status_code, "takes too long" in response.json()["detail"]) == (422, True)
