"""Incidents and silences over HTTP: lists, one with its history, acknowledgements, mutes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import msgspec
import pytest

from scheduler.relay import messages
from scheduler.silence import sweep
from schema.database import Connection
from schema.feed import read_feed
from schema.instants import rfc3339
from tests.support.http.http_api import all_pages, api_on

START = datetime(2026, 3, 1, tzinfo=UTC)
TOMORROW = "2099-01-01T00:00:00Z"
RULE = {"metric": "temp", "op": ">", "threshold": 30, "name": "hot", "notify": "change"}
numbers = count()


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def add(http: httpx.AsyncClient, **changes: Any) -> str:
    response = await http.post("/v1/alerts", json=RULE | changes)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def send(
    http: httpx.AsyncClient, minute: float, temp: float, device_id: str = "a", **more: Any
) -> str:
    event_id = f"e{next(numbers)}"
    event = {
        "event_id": event_id, "device_id": device_id, "metrics": {"temp": temp},
        "timestamp": rfc3339(START + timedelta(minutes=minute)),
    }  # fmt: skip
    assert (await http.post("/v1/events", json=event | more)).json() == {"status": "ok"}
    return event_id


async def ids(http: httpx.AsyncClient, query: str = "") -> list[int]:
    response = await http.get(f"/v1/incidents?{query}")
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


async def alerts(db: Connection) -> list[dict[str, Any]]:
    return [msgspec.json.decode(i.body) for i in await read_feed(db, 0) if i.kind == "alert"]


async def to_channels(db: Connection) -> list[tuple[str, list[str]]]:
    rows = await db.fetch(
        "select state, channels from outbox where channels is not null order by block, n"
    )
    return [(row["state"], row["channels"]) for row in rows]


async def test_an_incident_has_a_history_and_an_acknowledgement_counts_once(
    http: httpx.AsyncClient, db: Connection
) -> None:
    rule_id = await add(http, severity="critical")
    opened = await send(http, 0, 31.5)
    response = await http.post("/v1/incidents/1/ack", json={"by": "ana", "note": "on my way"})
    assert response.status_code == 200
    again = await http.post("/v1/incidents/1/ack", json={"by": "bo"})
    assert again.json() == response.json()
    resolved = await send(http, 5, 20)
    (row,) = (await http.get("/v1/incidents")).json()
    one = (await http.get("/v1/incidents/1")).json()
    history = one.pop("history")
    assert one == row
    expected = {
        "id": 1, "device_id": "a", "rule_id": rule_id, "rule_name": "hot", "severity": "critical",
        "state": "resolved", "metric": "temp", "op": ">", "threshold": 30,
        "opened_at": "2026-03-01T00:00:00Z", "opened_by": opened, "opened_value": 31.5,
        "acknowledged_by": "ana", "acknowledged_note": "on my way",
        "resolved_at": "2026-03-01T00:05:00Z", "resolved_by": resolved, "muted": False,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row.keys() - expected.keys() == {"recorded_at", "acknowledged_at"}
    assert history == [
        {"state": "firing", "at": "2026-03-01T00:00:00Z", "event_id": opened, "value": 31.5},
        {
            "state": "acknowledged", "at": row["acknowledged_at"], "by": "ana", "note": "on my way",
        },
        {"state": "resolved", "at": "2026-03-01T00:05:00Z", "event_id": resolved},
    ]  # fmt: skip
    assert (await http.post("/v1/incidents/1/ack", json={})).json()["acknowledged_by"] == "ana"
    assert (await http.post("/v1/incidents/1/ack")).json()["acknowledged_by"] == "ana"
    states = [(a["state"], a.get("by"), a["rule_name"]) for a in await alerts(db)]
    assert states == [
        ("firing", None, "hot"),
        ("acknowledged", "ana", "hot"),
        ("resolved", None, "hot"),
    ]


async def test_an_acknowledgement_goes_to_streams_and_not_to_mqtt_or_channels(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await add(http, channels=["ops"])
    await send(http, 0, 40)
    await http.post("/v1/incidents/1/ack", json={})
    _, item = [item for item in await read_feed(db, 0) if item.kind == "alert"]
    assert item.state == "acknowledged"
    assert messages(item) == []
    assert await to_channels(db) == [("firing", ["ops"])]


async def test_what_cannot_be_acknowledged_is_refused(http: httpx.AsyncClient) -> None:
    await add(http)
    await send(http, 0, 40)
    await send(http, 1, 20)
    assert (await http.post("/v1/incidents/1/ack", json={})).status_code == 409
    for unknown in ("2", "0", str(2**63), "99999999999999999999"):
        assert (await http.get(f"/v1/incidents/{unknown}")).status_code == 404
        assert (await http.post(f"/v1/incidents/{unknown}/ack", json={})).status_code == 404
    refused: list[Any] = [{"by": ""}, {"note": "a\0"}, {"by": 1}, {"who": "ana"}, []]
    for wrong in refused:
        response = await http.post("/v1/incidents/1/ack", json=wrong)
        assert response.status_code == 422, wrong


async def test_incidents_are_listed_by_filters_newest_first(http: httpx.AsyncClient) -> None:
    first = await add(http)
    second = await add(http, metric="hum", severity="info")
    await send(http, 0, 40, "a")
    await send(http, 1, 20, "a")
    await send(http, 2, 40, "b")
    await send(http, 3, 40, "c")
    await send(http, 4, 0, "c", metrics={"hum": 90})
    await http.post("/v1/incidents/3/ack", json={})
    assert await ids(http) == [4, 3, 2, 1]
    assert await ids(http, "state=open") == [4, 3, 2]
    assert await ids(http, "state=firing") == [4, 2]
    assert await ids(http, "state=acknowledged") == [3]
    assert await ids(http, "state=resolved") == [1]
    assert await ids(http, "device_id=c") == [4, 3]
    assert await ids(http, "device_id=nobody") == []
    assert await ids(http, f"rule_id={first}") == [3, 2, 1]
    assert await ids(http, f"rule_id={second}&severity=info") == [4]
    assert await ids(http, "severity=critical") == []
    span = "from_time=2026-03-01T00:02:00Z&to_time=2026-03-01T00:03:00Z"
    assert await ids(http, span) == [2]
    assert [row["id"] for row in await all_pages(http, "/v1/incidents?limit=3")] == [4, 3, 2, 1]
    for query in ("state=closed", "severity=bad", "colour=red", "device_id=%00", "limit=0"):
        assert (await http.get(f"/v1/incidents?{query}")).status_code == 422
    page = await http.get("/v1/incidents?limit=1")
    cursor = page.links["next"]["url"].partition("cursor=")[2]
    assert (await http.get(f"/v1/incidents?state=open&cursor={cursor}")).status_code == 422


async def test_an_incident_keeps_what_its_rule_said(http: httpx.AsyncClient) -> None:
    rule_id = await add(http)
    await send(http, 0, 40)
    await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"threshold": 35})
    await send(http, 1, 40)
    await http.delete(f"/v1/alerts/{rule_id}")
    rows = (await http.get("/v1/incidents")).json()
    assert [(row["threshold"], row["state"], row["rule_name"]) for row in rows] == [
        (35, "resolved", None),
        (30, "resolved", None),
    ]


async def test_a_silence_keeps_an_incident_from_channels_until_it_ends(
    http: httpx.AsyncClient, db: Connection
) -> None:
    rule_id = await add(http, channels=["ops"])
    response = await http.post(
        "/v1/silences", json={"rule_id": rule_id, "to_time": TOMORROW, "reason": "repair"}
    )
    assert response.status_code == 201
    silence = response.json()
    assert list(silence) == [
        "id", "device_id", "tag", "rule_id", "from_time", "to_time", "reason", "created_at", "active",
    ]  # fmt: skip
    assert (silence["active"], silence["reason"], silence["device_id"]) == (True, "repair", None)
    assert (await http.get("/v1/silences")).json() == [silence]
    await send(http, 0, 40)
    assert (await http.get("/v1/incidents/1")).json()["muted"] is True
    assert [(a["state"], a["muted"]) for a in await alerts(db)] == [("firing", True)]
    await send(http, 1, 41)
    assert await to_channels(db) == []
    response = await http.delete(f"/v1/silences/{silence['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert (await http.delete(f"/v1/silences/{silence['id']}")).status_code == 404
    assert (await http.get("/v1/incidents/1")).json()["muted"] is False
    await send(http, 2, 42)
    await send(http, 3, 43)
    await send(http, 4, 20)
    assert await to_channels(db) == [("firing", ["ops"]), ("resolved", ["ops"])]
    assert [(a["state"], a["value"], a["muted"]) for a in await alerts(db)] == [
        ("firing", 40, True),
        ("firing", 42, False),
        ("resolved", 20, False),
    ]


async def test_a_silence_names_a_device_a_tag_of_it_or_of_the_event_and_may_begin_later(
    http: httpx.AsyncClient, db: Connection
) -> None:
    rule_id = await add(http)
    await http.put("/v1/devices/tagged", json={"tags": ["north"]})
    for body in (
        {"device_id": "named"},
        {"tag": "north"},
        {"tag": "room:1", "rule_id": rule_id},
        {"device_id": "loud", "tag": "nowhere"},
        {"device_id": "loud", "rule_id": "other"},
        {"device_id": "loud", "from_time": rfc3339(datetime.now(UTC) + timedelta(hours=1))},
    ):
        response = await http.post("/v1/silences", json={"to_time": TOMORROW} | body)
        assert response.status_code == 201, response.text
    await send(http, 0, 40, "named")
    await send(http, 0, 40, "tagged")
    await send(http, 0, 40, "event", tags=["room:1"])
    await send(http, 0, 40, "loud")
    expected = {"named": True, "tagged": True, "event": True, "loud": False}
    assert {a["device_id"]: a["muted"] for a in await alerts(db)} == expected
    listed = (await http.get("/v1/incidents")).json()
    assert {row["device_id"]: row["muted"] for row in listed} == expected
    assert len(await all_pages(http, "/v1/silences?limit=4")) == 6


async def test_a_silent_device_is_muted_too(http: httpx.AsyncClient, db: Connection) -> None:
    await send(http, 0, 20)
    await http.post("/v1/silences", json={"rule_id": "silent", "to_time": TOMORROW})
    await db.execute(
        "insert into canary values ('test', now() - interval '1 day', now());"
        "update presence set last_seen = now() - interval '1 day', check_at = '-infinity'"
    )
    assert await sweep(db, 300) == 1
    (alert,) = await alerts(db)
    assert (alert["rule_id"], alert["muted"]) == ("silent", True)
    assert [alert[name] for name in ("metric", "op", "threshold", "rule_name")] == [None] * 4
    await send(http, 1, 20)
    assert [(a["state"], a["muted"]) for a in await alerts(db)][1:] == [("resolved", True)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"to_time": TOMORROW}, "device_id, tag or rule_id is required"),
        ({"device_id": "a"}, "to_time"),
        ({"device_id": "a", "to_time": "2026-01-01T00:00:00Z"}, "to_time: it must lie in the future"),
        ({"device_id": "a", "to_time": "tomorrow"}, "to_time"),
        ({"device_id": "a", "to_time": 5}, "to_time"),
        ({"device_id": "a", "to_time": TOMORROW, "from_time": TOMORROW}, "from_time must be before"),
        ({"device_id": "a/b", "to_time": TOMORROW}, "device_id"),
        ({"rule_id": "r 1", "to_time": TOMORROW}, "rule_id"),
        ({"tag": "", "to_time": TOMORROW}, "tag"),
        ({"tag": "t", "to_time": TOMORROW, "until": 1}, "until"),
    ],
    ids=str,
)  # fmt: skip
async def test_a_wrong_silence_is_refused(
    http: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    response = await http.post("/v1/silences", json=body)
    assert response.status_code == 422
    assert field in response.json()["detail"]


async def test_two_acknowledgements_at_once_make_one_notification(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await add(http)
    await send(http, 0, 40)
    responses = await asyncio.gather(
        *(http.post("/v1/incidents/1/ack", json={"by": f"p{n}"}) for n in range(5))
    )
    assert len({response.json()["acknowledged_by"] for response in responses}) == 1
    acts = await db.fetchval("select count(*) from audit where action = 'incident.acknowledge'")
    assert acts == 1
    assert [a["state"] for a in await alerts(db)] == ["firing", "acknowledged"]
