"""Rules replaced and deleted over HTTP: the change applies to the next event and leaves no incident open."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import httpx
import msgspec
import pytest

from schema.database import Connection
from schema.feed import read_feed
from tests.support.http_api import all_pages, api_on

RULE = {"metric": "temp", "op": ">", "threshold": 30}
numbers = count()


@pytest.fixture
async def processes(dsn: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two of them on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(api_on(dsn, f"api {n}")) for n in range(2)]


async def add(http: httpx.AsyncClient, **changes: Any) -> str:
    answer = await http.post("/v1/alerts", json=RULE | changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def send(http: httpx.AsyncClient, temp: float, device_id: str = "a") -> None:
    event = {"event_id": f"e{next(numbers)}", "device_id": device_id, "metrics": {"temp": temp}}
    assert (await http.post("/v1/events", json=event)).json() == {"status": "ok"}


async def notified(db: Connection) -> list[tuple[str, str]]:
    items = [item for item in await read_feed(db, 0) if item.kind == "alert"]
    return [(str(item.rule_id), item.state) for item in items]


async def open_incidents(db: Connection) -> int:
    return int(await db.fetchval("select count(*) from incident where resolved_at is null"))


async def test_a_replaced_rule_is_in_force_for_the_next_event_in_every_process(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    http, other = processes
    rule_id = await add(http)
    await send(other, 20)
    answer = await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"threshold": 10, "name": "low"})
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["id"], shown["threshold"], shown["name"]) == (rule_id, 10, "low")
    assert (await other.get(f"/v1/alerts/{rule_id}")).json() == shown
    await send(other, 20)
    assert await notified(db) == [(rule_id, "firing")]
    await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"enabled": False})
    await send(other, 50)
    assert await notified(db) == [(rule_id, "firing"), (rule_id, "resolved")]
    assert (await http.put("/v1/alerts/nothing", json=RULE)).status_code == 404
    assert (await http.put(f"/v1/alerts/{rule_id}", json={"metric": "x"})).status_code == 422


async def test_an_incident_continues_unless_a_decisive_member_of_its_rule_changes(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    http, _ = processes
    rule_id = await add(http)
    await send(http, 40)
    kept = RULE | {"name": "n", "severity": "critical", "notify": "change", "cooldown_s": 60}
    await http.put(f"/v1/alerts/{rule_id}", json=kept)
    assert await open_incidents(db) == 1
    await http.put(f"/v1/alerts/{rule_id}", json=kept | {"threshold": 35})
    assert await open_incidents(db) == 0
    await send(http, 40)
    assert await notified(db) == [(rule_id, state) for state in ("firing", "resolved", "firing")]
    assert await db.fetchval("select count(*) from incident") == 2


async def test_deleting_a_rule_resolves_its_incidents(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    http, other = processes
    rule_id, stays = await add(http), await add(http, threshold=100)
    for device_id in ("a", "b"):
        await send(other, 40, device_id)
    await send(other, 200, "c")
    answer = await http.delete(f"/v1/alerts/{rule_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await http.get(f"/v1/alerts/{rule_id}")).status_code == 404
    assert (await http.delete(f"/v1/alerts/{rule_id}")).status_code == 404
    assert (await notified(db))[-3:] == [(rule_id, "resolved")] * 3
    (last, *_) = reversed(await read_feed(db, 0))
    body = msgspec.json.decode(last.body)
    expected: dict[str, Any] = {
        "device_id": "c", "metrics": {}, "rule_id": rule_id, "metric": "temp", "value": None, "op": ">",
        "threshold": 30, "severity": "warning", "state": "resolved", "late": False, "event_id": None,
    }  # fmt: skip
    assert {name: body[name] for name in expected} == expected
    assert [row["rule_id"] for row in await db.fetch("select rule_id from alert_state")] == [stays]
    assert await open_incidents(db) == 1
    before = len(await notified(db))
    await send(other, 40)
    assert len(await notified(db)) == before


async def test_a_device_that_is_deleted_leaves_no_incident_open(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    http, _ = processes
    rule_id = await add(http)
    await send(http, 40, "a")
    await send(http, 40, "b")
    await db.execute(
        "insert into incident (device_no, rule_id, severity, opened_at)"
        " select device_no, 'silent', 'warning', now() from device where device_id = 'a'"
    )
    assert (await http.delete("/v1/devices/a")).status_code == 204
    assert (await notified(db))[-2:] == [(rule_id, "resolved"), ("silent", "resolved")]
    assert await open_incidents(db) == 1
    await send(http, 40, "a")
    assert await open_incidents(db) == 2


@pytest.mark.slow
async def test_no_event_in_flight_opens_an_incident_of_a_deleted_rule(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    going = True

    async def keep_sending(n: int) -> None:
        chance = random.Random(n)
        while going:
            await send(processes[n % 2], chance.choice([20, 40]), f"d{n}")

    senders = [asyncio.create_task(keep_sending(n)) for n in range(6)]
    for n in range(15):
        rule_id = await add(processes[n % 2])
        await asyncio.sleep(0.05)
        if n % 2:
            await processes[0].put(f"/v1/alerts/{rule_id}", json=RULE | {"threshold": 35})
        assert (await processes[1].delete(f"/v1/alerts/{rule_id}")).status_code == 204
    going = False
    await asyncio.gather(*senders)
    assert await db.fetchval("select count(*) from incident") > 0
    assert await open_incidents(db) == 0
    assert await db.fetchval("select count(*) from alert_state") == 0
    seen = await notified(db)
    assert {state for _, state in seen} == {"firing", "resolved"}


async def test_rules_are_listed_oldest_first_by_pages(processes: list[httpx.AsyncClient]) -> None:
    http, _ = processes
    made = [await add(http) for _ in range(12)]
    rows = await all_pages(http, "/v1/alerts?limit=5")
    assert [row["id"] for row in rows] == made
    assert rows[3] == (await http.get(f"/v1/alerts/{made[3]}")).json()
