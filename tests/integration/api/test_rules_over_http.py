"""Rules replaced and deleted over HTTP: the change applies to the next event and leaves no incident open."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import httpx
import msgspec
import pytest

from schema.database import Connection
from schema.feed import read_feed
from tests.support.http.http_api import all_pages, api_on

RULE = {"metric": "temp", "op": ">", "threshold": 30}
numbers = count()


@pytest.fixture
async def processes(dsn: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two of them on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(api_on(dsn, f"api {n}")) for n in range(2)]


async def add(http: httpx.AsyncClient, **changes: Any) -> str:
    response = await http.post("/v1/alerts", json=RULE | changes)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


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
    response = await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"threshold": 10, "name": "low"})
    assert response.status_code == 200
    shown = response.json()
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


# What a rule may say in two ways, and what it may change, without deciding otherwise.
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"clear_threshold": 30}),
    ({}, {"clear_threshold": 30.0, "threshold": 30.0}),
    ({"clear_threshold": 30}, {}),
    ({"clear_threshold": 30}, {"clear_threshold": None}),
    ({"op": "<", "threshold": 50}, {"op": "<", "threshold": 50, "clear_threshold": 50}),
    (
        {},
        {
            "device_id": None, "tag": None, "name": None, "severity": "warning", "for_s": 0.0,
            "cooldown_s": 0, "notify": "every", "enabled": True,
        },
    ),
    ({"threshold": 0}, {"threshold": -0.0}),
    ({}, {"name": "n"}),
    ({}, {"severity": "info"}),
    ({}, {"notify": "change", "cooldown_s": 5}),
]  # fmt: skip
OTHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"clear_threshold": 29}),
    ({"clear_threshold": 29}, {}),
    ({"clear_threshold": 29}, {"clear_threshold": 28}),
    ({}, {"for_s": 1}),
    ({}, {"enabled": False}),
    ({}, {"op": ">="}),
    ({}, {"device_id": "a"}),
    ({}, {"tag": "t"}),
]


async def test_a_rule_as_it_is_shown_may_be_sent_back(processes: list[httpx.AsyncClient]) -> None:
    http, _ = processes
    rule_id = await add(http)
    shown = (await http.get(f"/v1/alerts/{rule_id}")).json()
    assert (await http.put(f"/v1/alerts/{rule_id}", json=shown)).json() == shown
    changed = await http.put(f"/v1/alerts/{rule_id}", json=shown | {"threshold": 10})
    assert changed.json() == shown | {"threshold": 10}
    refused = await http.put(f"/v1/alerts/{rule_id}", json=shown | {"id": "other"})
    assert (refused.status_code, "in the path" in refused.text) == (422, True)
    assert (await http.post("/v1/alerts", json=shown)).status_code == 422


async def test_a_replaced_rule_that_decides_the_same_changes_no_incident(
    processes: list[httpx.AsyncClient], db: Any
) -> None:
    http, _ = processes
    for before, after in SAME:
        rule_id = await add(http, **before)
        await send(http, 40)
        in_force = "select in_force_from from rule where rule_id = $1"
        since = await db.fetchval(in_force, rule_id)
        response = await http.put(f"/v1/alerts/{rule_id}", json=RULE | after)
        assert response.status_code == 200
        assert await open_incidents(db) == 1, after
        assert await db.fetchval(in_force, rule_id) == since
        shown = response.json()
        assert {name: shown[name] for name in after} == after
        await http.delete(f"/v1/alerts/{rule_id}")


async def test_a_replaced_rule_that_decides_otherwise_starts_again(
    processes: list[httpx.AsyncClient], db: Any
) -> None:
    http, _ = processes
    for before, after in OTHER:
        rule_id = await add(http, **before)
        await send(http, 40)
        await http.put(f"/v1/alerts/{rule_id}", json=RULE | after)
        assert await open_incidents(db) == 0, after
        assert (await notified(db))[-2:] == [(rule_id, "firing"), (rule_id, "resolved")]
        await http.delete(f"/v1/alerts/{rule_id}")


async def test_an_identical_rule_is_no_change_for_any_process(
    processes: list[httpx.AsyncClient], db: Any
) -> None:
    http, _ = processes
    version = "select rules_version from config"
    for enabled in (True, False):
        rule_id = await add(http, enabled=enabled)
        before = await db.fetchval(version)
        shown = (await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"enabled": enabled})).json()
        assert shown == (await http.get(f"/v1/alerts/{rule_id}")).json()
        assert await db.fetchval(version) == before


async def test_a_disabled_rule_that_is_changed_and_enabled_again_starts_then(
    processes: list[httpx.AsyncClient], db: Any
) -> None:
    http, _ = processes
    rule_id = await add(http)
    await send(http, 40)
    await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"enabled": False})
    await http.put(f"/v1/alerts/{rule_id}", json=RULE | {"enabled": False, "name": "n"})
    await send(http, 50)
    await http.put(f"/v1/alerts/{rule_id}", json=RULE)
    assert await open_incidents(db) == 0
    await send(http, 40)
    assert await notified(db) == [(rule_id, state) for state in ("firing", "resolved", "firing")]


async def test_the_end_of_an_incident_that_was_not_notified_is_not_notified(
    processes: list[httpx.AsyncClient], db: Any
) -> None:
    http, _ = processes
    endings: list[Callable[[str], Awaitable[httpx.Response]]] = [
        lambda rule_id: http.delete(f"/v1/alerts/{rule_id}"),
        lambda rule_id: http.put(f"/v1/alerts/{rule_id}", json=RULE | {"threshold": 31}),
        lambda _: http.delete("/v1/devices/a"),
    ]
    for end in endings:
        rule_id = await add(http, cooldown_s=600)
        for temp in (40, 20, 40):
            await send(http, temp)
        assert await open_incidents(db) == 1
        assert (await end(rule_id)).status_code in {200, 204}
        assert await open_incidents(db) == 0
        states = [state for rule, state in await notified(db) if rule == rule_id]
        assert states == ["firing", "resolved"]
        await http.delete(f"/v1/alerts/{rule_id}")


async def test_deleting_a_rule_resolves_its_incidents(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    http, other = processes
    rule_id, stays = await add(http), await add(http, threshold=100)
    for device_id in ("a", "b"):
        await send(other, 40, device_id)
    await send(other, 200, "c")
    response = await http.delete(f"/v1/alerts/{rule_id}")
    assert (response.status_code, response.content) == (204, b"")
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
