"""Rules over stored events: incidents, states and what the feed notifies, in one transaction."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from schema.database import Connection, fetch_row
from schema.feed import read_feed
from schema.instants import rfc3339
from tests.integration.conftest import Doors, make_pipeline
from tests.support.database.rules import insert_rule

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes: float, value: float, event_id: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "event_id": event_id or f"e{minutes:g}",
        "device_id": "a",
        "timestamp": rfc3339(START + timedelta(minutes=minutes)),
        "metrics": {"temp": value},
    } | more


async def add_rule(db: Connection, **changes: Any) -> str:
    return await insert_rule(db, **{"op": ">", "threshold": 30.0} | changes)


async def notified(db: Connection) -> list[dict[str, Any]]:
    items = await read_feed(db, 0)
    return [msgspec.json.decode(item.body) for item in items if item.kind == "alert"]


async def test_a_rule_is_in_force_for_the_next_event_and_the_alert_begins_as_the_seeds(
    doors: Doors, db: Connection
) -> None:
    await doors.post(at(0, 40))
    rule_id = await add_rule(db)
    await doors.post(at(1, 41))
    (alert,) = await notified(db)
    assert list(alert) == [
        "device_id", "metrics", "time", "timestamp", "id", "incident_id", "rule_id", "metric",
        "value", "op", "threshold", "severity", "state", "late", "event_id", "rule_name", "muted",
    ]  # fmt: skip
    assert alert["time"] == "2026-03-01 00:01:00"
    assert (alert["rule_id"], alert["state"], alert["late"]) == (rule_id, "firing", False)


async def test_what_was_stored_before_the_rule_makes_nothing_late(
    doors: Doors, db: Connection
) -> None:
    await doors.post(at(100, 20))
    await add_rule(db)
    await doors.post(at(1, 41))
    (alert,) = await notified(db)
    assert not alert["late"]
    assert await db.fetchval("select count(*) from incident where resolved_at is null") == 1


async def test_an_incident_opens_once_and_resolves_at_the_first_clearing_event(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db, clear_threshold=25.0)
    for minute, value in enumerate([31, 33, 28, 26, 25, 20]):
        await doors.post(at(minute, value))
    assert [(a["state"], a["value"]) for a in await notified(db)] == [
        ("firing", 31),
        ("firing", 33),
        ("resolved", 25),
    ]
    row = await fetch_row(db, "select * from incident")
    assert (row["opened_by"], row["resolved_by"]) == ("e0", "e4")


async def test_a_late_event_is_notified_but_changes_no_incident(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    await doors.post(at(10, 20))
    await doors.post(at(5, 40))
    await doors.post(at(20, 40))
    await doors.post(at(15, 10))
    alerts = await notified(db)
    assert [(a["event_id"], a["late"]) for a in alerts] == [("e5", True), ("e20", False)]
    assert alerts[0]["incident_id"] is None
    assert await db.fetchval("select count(*) from incident") == 1
    assert await db.fetchval("select resolved_at from incident") is None


async def test_a_duplicate_does_nothing(doors: Doors, db: Connection) -> None:
    await add_rule(db)
    for _ in range(3):
        await doors.post(at(1, 40))
    assert len(await notified(db)) == 1


async def test_a_shuffled_array_gives_the_incidents_of_live_delivery(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db, notify="change", for_s=120.0)
    values = [20, 40, 40, 40, 20, 40, 20, 40, 40, 40, 40]
    live = [at(minute, value, device_id="live") for minute, value in enumerate(values)]
    for document in live:
        await doors.post(document)
    shuffled = [document | {"device_id": "buffered"} for document in live]
    random.Random(5).shuffle(shuffled)
    await doors.publish("buffered", shuffled)
    by_device = {
        device: [
            (row["opened_at"], row["resolved_at"])
            for row in await db.fetch(
                "select opened_at, resolved_at from incident join device using (device_no)"
                " where device_id = $1 order by opened_at",
                device,
            )
        ]
        for device in ("live", "buffered")
    }
    assert by_device["live"] == by_device["buffered"]
    assert len(by_device["live"]) == 2


async def test_a_cooldown_keeps_violations_silent_but_records_incidents(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db, cooldown_s=600.0)
    for minute, value in enumerate([40, 20, 40, 20] + [20] * 8 + [40]):
        await doors.post(at(minute, value))
    states = [(a["state"], a["event_id"]) for a in await notified(db)]
    assert states == [("firing", "e0"), ("resolved", "e1"), ("firing", "e12")]
    assert await db.fetchval("select count(*) from incident") == 3


async def test_an_incident_that_began_within_a_cooldown_is_notified_after_it(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db, cooldown_s=600.0, notify="change")
    for minute, value in enumerate([40, 20, 40] + [40] * 54 + [20]):
        await doors.post(at(minute, value))
    assert [(a["state"], a["event_id"], a["incident_id"]) for a in await notified(db)] == [
        ("firing", "e0", 1),
        ("resolved", "e1", 1),
        ("firing", "e10", 2),
        ("resolved", "e57", 2),
    ]
    assert not await db.fetchval("select incident_notified from alert_state")


async def test_a_rule_of_a_tag_sees_only_events_with_it(doors: Doors, db: Connection) -> None:
    await add_rule(db, tag="room:1")
    await doors.post(at(1, 40))
    await doors.post(at(2, 40, tags=["room:2", "room:1"]))
    assert [a["event_id"] for a in await notified(db)] == ["e2"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_states_are_right_with_two_processes_and_killed_connections(
    dsn: str, doors: Doors, db: Connection, seed: int
) -> None:
    """Each device's newest event decides; nothing opens twice; notified transitions alternate."""
    await add_rule(db, notify="change")
    dice = random.Random(seed)
    other, _ = make_pipeline(dsn, "other")
    stop = asyncio.Event()
    newest: dict[str, float] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run(stop))
        both = (doors, Doors(other, doors.health))
        for step in range(25):
            posts = []
            for device in (f"d{n}" for n in range(6)):
                value = dice.choice((10, 50))
                newest[device] = value
                document = at(step, value, f"{device}-{step}", device_id=device)
                posts += [dice.choice(both).post(document), dice.choice(both).post(document)]
            await asyncio.gather(*posts)
            if step % 6 == 5:
                await db.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name like any(array['test%', 'other%'])"
                )
        stop.set()
    firing = {
        row["device_id"]
        for row in await db.fetch(
            "select device_id from incident join device using (device_no) where resolved_at is null"
        )
    }
    assert firing == {device for device, value in newest.items() if value > 30}
    transitions: dict[str, list[str]] = {}
    for alert in await notified(db):
        transitions.setdefault(alert["device_id"], []).append(alert["state"])
    for states in transitions.values():
        assert all(a != b for a, b in pairwise(states))
        assert states[0] == "firing"


async def test_the_numbers_of_the_feed_grow_without_gaps_in_commit_order(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    seen: list[int] = []

    async def reader() -> None:
        while len(seen) < 206:
            seen.extend(item.id for item in await read_feed(db, seen[-1] if seen else 0))
            await asyncio.sleep(0.002)

    reading = asyncio.create_task(reader())
    posts = [doors.post(at(n, 40, device_id=f"d{n % 6}")) for n in range(200)]
    await asyncio.gather(*posts)
    await asyncio.wait_for(reading, 60)
    assert seen == list(range(1, 207))  # 200 violations and 6 devices that came online
