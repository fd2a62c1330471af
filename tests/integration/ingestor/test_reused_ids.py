"""A known event_id with another own time is a reused id: still a duplicate, but counted and shown."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from ingestor.replay import Replay, ReplayOutcome, ReplaySelection
from runtime.metrics import REPLAY, Metrics
from schema.database import Connection, fetch_row
from schema.event import DuplicateReason, Status, Verdict
from tests.integration.conftest import LIMITS, Doors, make_pipeline
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.

STORED = (Status.STORED, None)
RESEND = (Status.DUPLICATE, None)
REUSED = (Status.DUPLICATE, DuplicateReason.OTHER_CONTENT)

FIRST = {"timestamp": "2026-02-01T10:00:00Z"}
OTHER = {"timestamp": "2026-02-01T11:00:00Z"}
WITHOUT_OWN_TIME: list[dict[str, Any]] = [{}, {"age_ms": 0}, {"age_ms": 90_000}]


def event(event_id: str = "e", device_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "device_id": device_id, "metrics": {"x": 1}} | more


def outcomes(verdicts: list[Verdict]) -> list[tuple[Status, Any]]:
    return [(verdict.status, verdict.reason) for verdict in verdicts]


async def reused(db: Connection) -> dict[str, int]:
    rows = await db.fetch("select device_id, events from reused_id join device using (device_no)")
    return {row["device_id"]: row["events"] for row in rows}


@pytest.mark.parametrize("first", ["post", "publish"])
@pytest.mark.parametrize("second", ["post", "publish"])
async def test_another_own_time_makes_a_reused_id_over_both_doors(
    doors: Doors, db: Connection, first: str, second: str
) -> None:
    async def send(door: str, document: dict[str, Any]) -> list[tuple[Status, Any]]:
        sent = doors.post(document) if door == "post" else doors.publish("a", document)
        return outcomes(await sent)

    assert await send(first, event(**FIRST)) == [STORED]
    assert await send(second, event(**FIRST)) == [RESEND]
    assert await reused(db) == {}
    assert await send(second, event(**OTHER)) == [REUSED]
    assert await reused(db) == {"a": 1}
    row = await fetch_row(db, "select count(*) as events, min(ts)::text as ts from event")
    assert (row["events"], row["ts"]) == (1, "2026-02-01 10:00:00+00")


@pytest.mark.parametrize("without", WITHOUT_OWN_TIME)
async def test_arrival_and_age_never_count(
    doors: Doors, db: Connection, without: dict[str, Any]
) -> None:
    own, none = event("own", **FIRST), event("none", **without)
    assert outcomes(await doors.post([own, none])) == [STORED, STORED]
    assert outcomes(await doors.post([own, none])) == [RESEND, RESEND]
    crossed = [event("own", **without), event("none", **OTHER)]
    assert outcomes(await doors.post(crossed)) == [RESEND, RESEND]
    assert await reused(db) == {}


@pytest.mark.parametrize(
    "same",
    [
        {"ts": 1769940000000},
        {"timeStamp": "2026-02-01T11:00:00+01:00"},
        {"timestamp": "2026-02-01 10:00:00", "metrics": {"x": 2}},
    ],
)
async def test_the_same_instant_written_otherwise_is_a_resend(
    doors: Doors, same: dict[str, Any]
) -> None:
    await doors.post(event(**FIRST))
    assert outcomes(await doors.post(event() | same)) == [RESEND]


async def test_a_batch_may_hold_the_event_its_resend_and_reused_ids_of_several_devices(
    doors: Doors, db: Connection
) -> None:
    batch = [
        event(**FIRST),
        event(device_id="b", **OTHER),
        event(**FIRST),
        event(**OTHER),
        event(device_id="b", **OTHER),
        event(device_id="b", **FIRST),
        event("without time"),
        event("without time", **OTHER),
        event("e2", **OTHER),
    ]
    expected = [STORED, STORED, RESEND, REUSED, RESEND, REUSED, STORED, RESEND, STORED]
    assert outcomes(await doors.post(batch)) == expected
    assert await reused(db) == {"a": 1, "b": 1}
    again = [RESEND if verdict == STORED else verdict for verdict in expected]
    assert outcomes(await doors.post(batch)) == again
    assert await reused(db) == {"a": 2, "b": 2}


async def test_a_bad_neighbour_changes_no_verdict(doors: Doors) -> None:
    await doors.post(event(**FIRST))
    batch = [event(metrics={}), event(**OTHER), event("e2", **OTHER)]
    (bad, *others) = await doors.post(batch)
    assert bad.status is Status.REJECTED
    assert outcomes(others) == [REUSED, STORED]


async def test_two_writers_at_once_store_one_event_and_name_the_other(
    dsn: str, doors: Doors, db: Connection
) -> None:
    other, _ = make_pipeline(dsn, "other")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run(stop))
        second = Doors(other, doors.health)
        verdicts = await asyncio.gather(
            *(
                door.post(event(f"e{n}", f"d{n % 5}", **time))
                for n in range(40)
                for door, time in ((doors, FIRST), (second, OTHER))
            )
        )
        stop.set()
    counted = Counter(outcomes([verdict for (verdict,) in verdicts]))
    assert counted == {STORED: 40, REUSED: 40}
    assert await reused(db) == {f"d{n}": 8 for n in range(5)}


async def test_a_dead_letter_whose_id_was_used_since_is_a_reused_id(
    dsn: str, doors: Doors, db: Connection
) -> None:
    await doors.publish("a", event(**FIRST, metrics={"soc_percent": 120}))
    await doors.publish("a", event(**OTHER))
    await db.execute("update profile set metrics = '{}' where name = 'battery'")
    await db.execute("update config set registry_version = registry_version + 1")
    connection = await asyncpg.connect(dsn)
    try:
        for times in (1, 2):
            outcome = ReplayOutcome()
            everything = ReplaySelection(ids=[1])
            await Replay(connection, doors.pipeline, LIMITS).page(everything, outcome)
            assert (outcome.counts.duplicate, outcome.counts.reused_ids) == (1, 1)
            assert await reused(db) == {"a": times}
    finally:
        connection.terminate()


async def test_a_replayed_dead_letter_that_was_stored_is_a_resend(
    dsn: str, doors: Doors, db: Connection
) -> None:
    await doors.publish("a", event(**FIRST, metrics={"soc_percent": 120}))
    await db.execute("update profile set metrics = '{}' where name = 'battery'")
    await db.execute("update config set registry_version = registry_version + 1")
    connection = await asyncpg.connect(dsn)
    try:
        outcome = ReplayOutcome()
        for _ in range(2):
            everything = ReplaySelection(ids=[1])
            await Replay(connection, doors.pipeline, LIMITS).page(everything, outcome)
    finally:
        connection.terminate()
    counts = outcome.counts
    assert (counts.stored, counts.duplicate, counts.reused_ids) == (1, 1, 0)


async def test_while_retention_drops_a_month_every_duplicate_counts_as_a_resend(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event(**FIRST))
    await db.execute("insert into partition_drop (partition) values ('event_2024_01')")
    assert outcomes(await doors.post(event(**OTHER))) == [RESEND]
    await db.execute("delete from partition_drop")
    assert outcomes(await doors.post(event(**OTHER))) == [REUSED]


async def test_the_id_of_an_event_that_is_not_kept_any_more_is_free(
    doors: Doors, db: Connection
) -> None:
    """As retention leaves it: the event and its key are gone."""
    await doors.post(event(**FIRST))
    await db.execute("delete from event")
    await db.execute("delete from event_key")
    assert outcomes(await doors.post(event(**OTHER))) == [STORED]
    assert await reused(db) == {}


async def test_reused_ids_are_counted_apart_but_stay_duplicates(dsn: str) -> None:
    metrics = Metrics()
    pipeline, health = make_pipeline(dsn, metrics=metrics)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(pipeline.run(stop))
        doors = Doors(pipeline, health)
        counter = [event(str(n % 256), ts=1769940000000 + n) for n in range(512)]
        await doors.post(counter)
        await doors.post(counter)
        stop.set()
    counts = pipeline.counts
    assert (counts.stored, counts.duplicate, counts.reused_ids) == (256, 768, 512)
    assert counts.balanced
    assert metrics.events_of(REPLAY).reused_ids == 0


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


async def post(http: httpx.AsyncClient, path: str, document: Any) -> Any:
    response = await http.post(path, json=document)
    assert response.status_code == httpx.codes.OK, response.text
    return response.json()


async def test_answers_and_the_device_show_reused_ids_until_they_are_deleted(
    http: httpx.AsyncClient,
) -> None:
    assert await post(http, "/v1/events", event(**FIRST)) == {"status": "ok"}
    reused_id = {"status": "duplicate", "reason": "other_content"}
    assert await post(http, "/v1/events", event(**FIRST)) == {"status": "duplicate"}
    assert await post(http, "/v1/events", event(**OTHER)) == reused_id
    assert await post(http, "/telemetry", event(**OTHER)) == reused_id
    batch = [event(**OTHER), event("e2", **OTHER)]
    assert await post(http, "/v1/events/batch", batch) == [
        {"event_id": "e"} | reused_id,
        {"event_id": "e2", "status": "stored"},
    ]
    device = (await http.get("/v1/devices/a")).json()
    assert (device["reused_ids"], device["reused_ids_at"][-1]) == (3, "Z")
    assert (await http.get("/v1/devices")).json() == [device]
    assert (await http.delete("/v1/devices/a/reused_ids")).status_code == httpx.codes.NO_CONTENT
    device = (await http.get("/v1/devices/a")).json()
    assert (device["reused_ids"], device["reused_ids_at"]) == (0, None)
    assert await post(http, "/v1/events", event(**OTHER)) == reused_id
    assert (await http.get("/v1/devices/a")).json()["reused_ids"] == 1


async def test_a_forgotten_device_has_no_reused_ids_and_an_unknown_one_is_404(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await post(http, "/v1/events/batch", [event(**FIRST), event(**OTHER)])
    assert (await http.delete("/v1/devices/a")).status_code == httpx.codes.NO_CONTENT
    assert (await http.get("/v1/devices/a")).json()["reused_ids"] == 0
    assert await post(http, "/v1/events", event(**OTHER)) != {"status": "ok"}
    assert (await http.delete("/v1/devices/a?events=true")).status_code == httpx.codes.NO_CONTENT
    assert await db.fetchval("select count(*) from reused_id") == 0
    for unknown in ("a", "never%20seen"):
        response = await http.delete(f"/v1/devices/{unknown}/reused_ids")
        assert response.status_code == httpx.codes.NOT_FOUND
        assert "There is no device" in response.json()["detail"]


async def test_a_large_batch_has_the_same_verdicts(http: httpx.AsyncClient) -> None:
    """Above 256 KiB the door decodes item by item."""
    padding: dict[str, Any] = {"tags": ["x" * 128] * 32}
    sent = [event(str(n % 100), ts=1769940000000 + n) | padding for n in range(200)]
    assert len(json.dumps(sent)) > 2 * 256 * 1024
    responses = await post(http, "/v1/events/batch", sent)
    assert Counter((response["status"], response.get("reason")) for response in responses) == {
        ("stored", None): 100,
        ("duplicate", "other_content"): 100,
    }
