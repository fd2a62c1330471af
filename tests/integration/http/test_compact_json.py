"""Every JSON response is compact: no white space outside of texts, whoever writes it."""

import json
from typing import Any

import httpx
import msgspec
import pytest

from scheduler.rollups import roll
from schema.feed import read_feed
from tests.support.http.http_api import api_on

DAY = "from_time=2026-02-01T00:00:00Z&to_time=2026-02-02T00:00:00Z"
STATS = "count,sum,avg,min,max,first,last,stddev,p50,p95,p99"
JSON = {"Content-Type": "application/json"}
METRICS = {"a": 1, "b:c/d": -1.5, "large": 1e300, "small": 1e-9, "temp_c": 40.25}
PATHS = (
    "/v1/devices",
    "/v1/devices?latest=true",
    "/v1/latest",
    "/v1/audit",
    "/v1/rejected/summary",
    "/v1/devices/a",
    "/v1/devices/a/presence",
    "/v1/devices/a/latest",
    "/v1/devices/silent/latest",
    f"/v1/devices/a/events?{DAY}",
    "/v1/search?tag=t%20%3A%20u",
    "/devices/a/metrics?start_time=2026-02-01T00:00:00Z&end_time=2026-02-02T00:00:00Z",
    "/devices/a/metrics?start_time=2026-03-01T00:00:00Z&end_time=2026-03-02T00:00:00Z",
    "/devices/a/summary?date=2026-02-01",
    f"/v1/metrics/aggregate?metric=a&stats={STATS}&interval=1h&{DAY}",
    f"/v1/metrics/aggregate?metric=a&device_id=a&fill=linear&interval=1h&{DAY}",
    f"/v1/metrics/aggregate?metric=a&group_by=tag&interval=1h&{DAY}",
    "/v1/profiles",
    "/v1/profiles/car",
    "/v1/alerts",
    "/v1/incidents",
    "/v1/incidents/1",
    "/v1/channels",
    "/v1/silences",
    "/v1/devices/summary",
    "/v1/devices/a/presence/history",
    f"/v1/devices/a/gaps?{DAY}",
    "/v1/info",
    "/v1/rejected",
    "/v1/rejected/1",
    "/v1/export?format=ndjson",
    "/v1/export?format=ndjson&metric=a",
    "/v1/devices/unknown",
    "/health",
)
ANSWERED = {httpx.codes.OK, httpx.codes.NOT_FOUND, httpx.codes.SERVICE_UNAVAILABLE}


def event(event_id: str, **more: Any) -> dict[str, Any]:
    timestamp = f"2026-02-01T10:00:0{event_id}.5Z"
    common = {"device_id": "a", "timestamp": timestamp, "metrics": METRICS, "tags": ["t : u", "v"]}
    return {"event_id": event_id} | common | more


def assert_compact(text: bytes) -> None:
    assert text == msgspec.json.format(text, indent=-1)


async def fill(http: httpx.AsyncClient) -> None:
    await http.post("/v1/alerts", json={"metric": "a", "op": ">", "threshold": 0, "name": "a : b"})
    events = [event("1"), event("2"), event("3", metrics={}), event("4", device_id="b", tags=[])]
    await http.post("/v1/events/batch", json=events)
    hook = {"url": "https://a.example", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    assert (await http.put("/v1/channels/ops", json=hook)).is_success
    silence = {"tag": "x , y", "to_time": "2099-01-01T00:00:00Z", "reason": "a : b"}
    assert (await http.post("/v1/silences", json=silence)).is_success
    await http.post("/v1/incidents/1/ack", json={"by": "a : b"})
    await http.put("/v1/devices/silent", json={"name": "a : b", "tags": ["x , y"]})
    limits = {"speed": {"unit": "km / h", "min": 0, "max": 1e300}, "free": {}, "x": {"min": -1.5}}
    await http.put("/v1/profiles/car", json={"metrics": limits})


async def test_every_answer_and_notification_is_compact(dsn: str, db: Any) -> None:
    async with api_on(dsn) as http:
        await fill(http)
        for _ in range(2):  # From events, then from rollups.
            for path in PATHS:
                response = await http.get(path)
                assert response.status_code in ANSWERED, response.text
                for line in response.content.splitlines():
                    assert_compact(line)
            await roll(db)
        for item in await read_feed(db, 0):
            assert_compact(item.body)
        audit = (await http.get("/v1/audit?action=profile.write")).text
        assert '"free":{},"speed":{"max":1' in audit
        car = (await http.get("/v1/profiles/car")).json()
        assert car["interval_s"] is None
        assert car["metrics"]["speed"]["unit"] == "km / h"
        (newest, *_) = (await http.get(f"/v1/devices/a/events?{DAY}")).json()
        assert (newest["metrics"], newest["tags"]) == (METRICS, ["t : u", "v"])
        silent = await http.get("/v1/devices/silent/latest")
        assert silent.content == b'{"device_id":"silent","metrics":{}}'


@pytest.mark.parametrize("document", [event("1"), [event("1")], [event("1", metrics={})]])
async def test_answers_to_posts_are_compact(dsn: str, document: Any) -> None:
    path = "/v1/events/batch" if isinstance(document, list) else "/v1/events"
    async with api_on(dsn) as http:
        response = await http.post(path, content=json.dumps(document), headers=JSON)
        assert_compact(response.content)
