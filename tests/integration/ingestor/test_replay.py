"""Dead letters sent through the pipeline again: what is stored then, how often, and what stays."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from api.store.dead_letters import queries as api_queries
from ingestor.decode.presence import HEARTBEAT
from ingestor.replay import (
    READ_DEAD_LETTERS,
    Replay,
    ReplayOutcome,
    ReplaySelection,
    count_dead_letters,
)
from schema.database import Connection, fetch_row
from schema.event import Door, Reason, Status
from tests.integration.conftest import LIMITS, Doors, make_pipeline

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.

ALL = ReplaySelection()
OUT_OF_RANGE = {"soc_percent": 120}
ARRIVAL = datetime(2026, 10, 1, 12, 0, 0, 123456, tzinfo=UTC)


class DeadLetters:
    """The dead letters of the test's database, and their replay through the pipeline of its doors."""

    def __init__(self, dsn: str, db: Connection, doors: Doors) -> None:
        self._dsn, self.db, self._doors = dsn, db, doors

    @asynccontextmanager
    async def replaying(self, doors: Doors | None = None) -> AsyncIterator[Replay]:
        connection = await asyncpg.connect(self._dsn)
        try:
            yield Replay(connection, (doors or self._doors).pipeline, LIMITS)
        finally:
            connection.terminate()

    async def replay(
        self,
        selection: ReplaySelection = ALL,
        dead_letters_max: int = 200,
        doors: Doors | None = None,
    ) -> ReplayOutcome:
        outcome = ReplayOutcome()
        async with self.replaying(doors) as replay:
            while True:
                await replay.page(selection, outcome, dead_letters_max)
                if outcome.next is None:
                    return outcome
                selection = replace(selection, after=outcome.next)

    async def put(self, payload: Any, **columns: Any) -> int:
        """A dead letter as a door would have left it at ARRIVAL."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        row = {
            "received_at": ARRIVAL, "door": "mqtt", "device_id": "a", "reason": "out_of_range",
            "detail": "then", "item": None, "payload": raw,
        } | columns  # fmt: skip
        names, places = ", ".join(row), ", ".join(f"${n + 1}" for n in range(len(row)))
        statement = f"insert into rejected ({names}) values ({places}) returning rejected_id"
        return int(await self.db.fetchval(statement, *row.values()))

    async def open(self) -> list[int]:
        rows = await self.db.fetch(
            "select rejected_id from rejected where replayed_at is null order by 1"
        )
        return [row[0] for row in rows]

    async def count(self) -> int:
        return int(await self.db.fetchval("select count(*) from rejected"))

    async def events(self) -> list[Any]:
        return list(
            await self.db.fetch(
                "select device_id, e.* from event e join device using (device_no)"
                " order by ts, event_id, device_id"
            )
        )

    async def allow(self, highest: float = 200) -> None:
        """Raise the range that made OUT_OF_RANGE one."""
        await self.db.execute(
            f"""begin;
            update profile set metrics = '{{"soc_percent": {{"min": 0, "max": {highest}}}}}'
            where name = 'battery';
            update config set registry_version = registry_version + 1; commit"""
        )


@pytest.fixture
def dead_letters(dsn: str, db: Connection, doors: Doors) -> DeadLetters:
    return DeadLetters(dsn, db, doors)


def counts(outcome: ReplayOutcome) -> tuple[int, int, int, int]:
    events = outcome.counts
    return outcome.dead_letters, events.stored, events.duplicate, events.rejected.total()


def body(event_id: str | None = "e1", **more: Any) -> dict[str, Any]:
    named = {} if event_id is None else {"event_id": event_id}
    return named | {"metrics": OUT_OF_RANGE} | more


async def test_after_a_range_was_raised_each_dead_letter_is_stored_once_with_its_first_arrival(
    dead_letters: DeadLetters, doors: Doors
) -> None:
    await doors.publish("a", body("m1"))
    await doors.publish("a", [body("m2"), {"event_id": "ok", "metrics": {"x": 1}}])
    await doors.post(body("h1", device_id="b"))
    await doors.post([body("h2", device_id="c"), body("h3", device_id="d")])
    arrivals = await dead_letters.db.fetch("select received_at from rejected")
    await asyncio.sleep(0.01)
    await dead_letters.allow()
    assert counts(await dead_letters.replay()) == (5, 5, 0, 0)
    stored = {row["event_id"]: row for row in await dead_letters.events()}
    assert stored.keys() == {"ok", "m1", "m2", "h1", "h2", "h3"}
    assert {stored[name]["device_id"] for name in ("m1", "m2")} == {"a"}
    assert stored["h3"]["device_id"] == "d"
    first = {row[0] for row in arrivals}
    assert {stored[name]["received_at"] for name in ("m1", "m2", "h1", "h2", "h3")} == first
    assert stored["h1"]["ts"] == stored["h1"]["received_at"]
    assert await dead_letters.open() == []
    assert counts(await dead_letters.replay()) == (0, 0, 0, 0)
    assert await dead_letters.count() == 5


async def test_what_is_refused_again_keeps_its_dead_letter_and_makes_no_other(
    dead_letters: DeadLetters, doors: Doors
) -> None:
    await doors.publish("a", b"no json")
    await doors.publish("a", body("range"))
    await doors.publish("a", [{"metrics": {}}, 7, [body("inner")]])
    before = await dead_letters.db.fetch("select * from rejected order by 1")
    outcome = await dead_letters.replay()
    assert counts(outcome) == (5, 0, 0, 5)
    assert outcome.counts.rejected == {
        Reason.MALFORMED_JSON: 1,
        Reason.OUT_OF_RANGE: 1,
        Reason.BAD_METRICS: 1,
        Reason.NOT_AN_OBJECT: 2,
    }
    assert await dead_letters.db.fetch("select * from rejected order by 1") == before
    assert await dead_letters.events() == []
    assert await dead_letters.db.fetchval("select count(*) from device") == 0


async def test_what_postgresql_refuses_again_keeps_its_dead_letter_and_the_rest_is_stored(
    dead_letters: DeadLetters,
) -> None:
    await dead_letters.allow()
    await dead_letters.db.execute(
        "alter table event add constraint poison check (event_id <> 'bad')"
    )
    bad = await dead_letters.put(body("bad"), reason="refused_by_database")
    await dead_letters.put(body("good"))
    outcome = await dead_letters.replay()
    assert counts(outcome) == (2, 1, 0, 1)
    assert outcome.counts.rejected == {Reason.REFUSED_BY_DATABASE: 1}
    assert await dead_letters.open() == [bad]
    await dead_letters.db.execute("alter table event drop constraint poison")
    assert counts(await dead_letters.replay()) == (1, 1, 0, 0)
    assert await dead_letters.count() == 2


async def test_an_event_that_was_sent_properly_meanwhile_is_a_duplicate(
    dead_letters: DeadLetters, doors: Doors
) -> None:
    await dead_letters.put(body("named"))
    await dead_letters.put({"timestamp": "2026-09-30T00:00:00Z", "metrics": OUT_OF_RANGE})
    await dead_letters.allow()
    await doors.publish("a", body("named"))
    await doors.post({"device_id": "a", "ts": 1_790_726_400_000, "metrics": OUT_OF_RANGE})
    assert counts(await dead_letters.replay()) == (2, 0, 2, 0)
    assert len(await dead_letters.events()) == 2
    assert await dead_letters.open() == []


async def test_a_crash_before_the_dead_letters_were_marked_stores_nothing_twice(
    dead_letters: DeadLetters,
) -> None:
    await dead_letters.allow()
    for payload in (body("named"), body(None), body(None, age_ms=5)):
        await dead_letters.put(payload)
    whole = {"door": "http", "reason": "not_an_object", "device_id": None}
    await dead_letters.put([body(None), body(None)], **whole)
    await dead_letters.put([body(None, device_id="b"), body(None, device_id="b")], **whole)
    first = await dead_letters.replay()
    assert (first.counts.stored, first.counts.duplicate, first.counts.rejected.total()) == (5, 0, 2)
    await dead_letters.db.execute("update rejected set replayed_at = null")
    assert counts(await dead_letters.replay()) == (5, 0, 5, 2)
    events = await dead_letters.events()
    assert len(events) == 5
    assert {row["received_at"] for row in events} == {ARRIVAL}
    assert {row["event_id"] for row in events if row["device_id"] == "b"} == {
        "random-5-0",
        "random-5-1",
    }


async def test_two_replays_at_once_by_two_processes_store_each_event_once(
    dsn: str, dead_letters: DeadLetters
) -> None:
    await dead_letters.allow()
    for n in range(300):
        device = f"d{n % 7}"
        identity = f"e{n}" if n % 3 else None
        await dead_letters.put(body(identity), device_id=device)
    other, health = make_pipeline(dsn, "other")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run(stop))
        replays = (
            dead_letters.replay(dead_letters_max=40),
            dead_letters.replay(dead_letters_max=60, doors=Doors(other, health)),
            dead_letters.replay(dead_letters_max=50),
        )
        outcomes = await asyncio.gather(*replays)
        stop.set()
    replayed, stored, duplicate, rejected = map(sum, zip(*map(counts, outcomes), strict=True))
    assert (stored, rejected) == (300, 0)
    assert duplicate == replayed - 300
    assert len(await dead_letters.events()) == 300
    assert await dead_letters.open() == []


async def test_a_dead_letter_stays_open_until_none_of_its_items_is_refused(
    dead_letters: DeadLetters,
) -> None:
    items = [body("good", metrics={"x": 1}), body("bad")]
    number = await dead_letters.put(items, door="mqtt", reason="too_many_items")
    assert counts(await dead_letters.replay()) == (1, 1, 0, 1)
    assert await dead_letters.open() == [number]
    await dead_letters.allow()
    assert counts(await dead_letters.replay()) == (1, 1, 1, 0)
    assert await dead_letters.open() == []


async def test_the_window_of_event_time_is_that_of_the_first_arrival(
    dead_letters: DeadLetters,
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=700)
    aged = {"ts": int((long_ago - timedelta(days=20)).timestamp() * 1000)}
    await dead_letters.put(body("inside", **aged, metrics={"x": 1}), received_at=long_ago)
    ahead = {"timestamp": (ARRIVAL + timedelta(seconds=301)).isoformat()}
    await dead_letters.put(body("ahead", **ahead, metrics={"x": 1}))
    outcome = await dead_letters.replay()
    assert counts(outcome) == (2, 1, 0, 1)
    assert outcome.counts.rejected == {Reason.IN_THE_FUTURE: 1}


@pytest.mark.parametrize(("days", "reason"), [(-740, Reason.TOO_OLD), (3650, Reason.IN_THE_FUTURE)])
async def test_outside_today_s_window_there_is_no_table_and_an_event_is_rejected(
    dead_letters: DeadLetters, days: int, reason: Reason
) -> None:
    arrived = datetime.now(UTC) + timedelta(days=days)
    await dead_letters.put(body("e", metrics={"x": 1}), received_at=arrived)
    await dead_letters.put(
        [body("f", metrics={"x": 1}, device_id="a")], received_at=arrived, door="http"
    )
    outcome = await dead_letters.replay()
    assert (counts(outcome), outcome.counts.rejected) == ((2, 0, 0, 2), {reason: 2})
    assert await dead_letters.count() == 2


async def test_a_dead_letter_stays_of_its_device_and_without_one_the_body_names_it(
    dead_letters: DeadLetters,
) -> None:
    await dead_letters.put({"event_id": "e", "metrics": {"x": 1}}, reason="bad_metrics")
    of_b = {"event_id": "e", "device_id": "b", "metrics": {"x": 1}}
    await dead_letters.put(of_b, door="http", reason="bad_metrics", device_id="b")
    other = {"event_id": "f", "device_id": "b", "metrics": {"x": 1}}
    await dead_letters.put(other, reason="device_mismatch")
    await dead_letters.put(other, door="http", reason="device_mismatch")
    without_device = {"event_id": "g", "metrics": {"x": 1}}
    await dead_letters.put(without_device, door="http", reason="bad_device_id", device_id=None)
    outcome = await dead_letters.replay()
    assert outcome.counts.rejected == {Reason.DEVICE_MISMATCH: 2, Reason.BAD_DEVICE_ID: 1}
    assert [(row["device_id"], row["event_id"]) for row in await dead_letters.events()] == [
        ("a", "e"),
        ("b", "e"),
    ]


async def test_a_retained_message_without_identity_stays_refused(
    dead_letters: DeadLetters, doors: Doors
) -> None:
    await doors.publish("a", {"metrics": {"x": 1}}, retained=True)
    outcome = await dead_letters.replay()
    assert outcome.counts.rejected == {Reason.NO_IDENTITY: 1}
    assert await dead_letters.open()


async def test_what_was_cut_off_is_taken_only_by_its_number_and_stays_refused(
    dead_letters: DeadLetters,
) -> None:
    number = await dead_letters.put(body("whole", metrics={"x": 1}), reason="too_large")
    assert counts(await dead_letters.replay()) == (0, 0, 0, 0)
    assert counts(await dead_letters.replay(ReplaySelection(reason=Reason.TOO_LARGE))) == (
        0,
        0,
        0,
        0,
    )
    outcome = await dead_letters.replay(ReplaySelection(ids=[number]))
    assert (counts(outcome), outcome.counts.rejected) == ((1, 0, 0, 1), {Reason.TOO_LARGE: 1})


async def test_a_dead_letter_is_never_too_large_for_its_replay(dead_letters: DeadLetters) -> None:
    padded = body("padded", metrics={"x": 1}, padding="y" * 400_000)
    for number in range(12):
        await dead_letters.put(padded | {"event_id": f"e{number}"})
    async with dead_letters.replaying() as replay:
        await replay.page(ALL, page := ReplayOutcome())
    assert 0 < page.dead_letters < 12, "a page holds only so many bytes"
    rest = await dead_letters.replay(replace(ALL, after=page.next or 0))
    assert page.counts.stored + rest.counts.stored == 12


async def test_named_dead_letters_are_replayed_again(dead_letters: DeadLetters) -> None:
    await dead_letters.allow()
    first, second = await dead_letters.put(body("e1")), await dead_letters.put(body("e2"))
    await dead_letters.replay()
    marked = await dead_letters.db.fetch("select replayed_at from rejected")
    outcome = await dead_letters.replay(ReplaySelection(ids=[first, second, 999]))
    assert counts(outcome) == (2, 0, 2, 0)
    assert await dead_letters.db.fetch("select replayed_at from rejected") == marked


async def test_a_selection_takes_what_fits_everything_it_names(dead_letters: DeadLetters) -> None:
    day = timedelta(days=1)
    await dead_letters.put(b"1", device_id="a", received_at=ARRIVAL)
    await dead_letters.put(b"2", device_id="b", received_at=ARRIVAL + day)
    await dead_letters.put(b"3", device_id="b", door="http", reason="bad_tags")
    await dead_letters.put(b"4", device_id=None, door="http", reason="malformed_json")
    for selection, expected in (
        (ALL, [1, 2, 3, 4]),
        (ReplaySelection(device_id="b"), [2, 3]),
        (ReplaySelection(reason=Reason.BAD_TAGS), [3]),
        (ReplaySelection(door=Door.HTTP), [3, 4]),
        (ReplaySelection(door=Door.HTTP, device_id="b"), [3]),
        (ReplaySelection(start=ARRIVAL + day), [2]),
        (ReplaySelection(end=ARRIVAL + day), [1, 3, 4]),
        (ReplaySelection(after=2), [3, 4]),
        (ReplaySelection(last=2), [1, 2]),
        (ReplaySelection(ids=[4, 1], door=Door.MQTT), [1]),
        (ReplaySelection(device_id="nobody"), []),
    ):
        found, newest = await count_dead_letters(dead_letters.db, selection)
        assert found.total() == len(expected), selection
        assert newest == max(expected, default=0)
        assert (await dead_letters.replay(selection)).dead_letters == len(expected), selection


async def test_pages_follow_each_other_without_gap_and_end(dead_letters: DeadLetters) -> None:
    await dead_letters.allow()
    numbers = [await dead_letters.put(body(f"e{n}")) for n in range(7)]
    seen, selection = [], ALL
    async with dead_letters.replaying() as replay:
        while True:
            await replay.page(selection, page := ReplayOutcome(), 3)
            seen.append((page.dead_letters, page.next))
            if page.next is None:
                break
            selection = replace(selection, after=page.next)
    assert seen == [(3, numbers[2]), (3, numbers[5]), (1, None)]
    assert counts(await dead_letters.replay(dead_letters_max=7)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("column", "index"), [("device_id", "rejected_device"), ("reason", "rejected_reason")]
)
async def test_few_dead_letters_among_many_are_found_by_an_index(
    dead_letters: DeadLetters, column: str, index: str
) -> None:
    await dead_letters.db.execute(
        """insert into rejected (received_at, door, device_id, reason, detail, payload)
        select now(), 'mqtt', 'd' || n % 50, 'bad_tags', '', 'x' from generate_series(1, 20000) n;
        insert into rejected (received_at, door, device_id, reason, detail, payload)
        values (now(), 'mqtt', 'rare', 'no_items', '', '[]');
        analyze rejected"""
    )
    device, reason = ("rare", None) if column == "device_id" else (None, "no_items")
    fits = (device, reason, None, None, None, None)
    listed = await _plan(dead_letters.db, api_queries.list_dead_letters, 2**63 - 1, *fits, 101)
    read = await _plan(dead_letters.db, READ_DEAD_LETTERS, 0, None, *fits, 200, 1_000_000)
    assert index in listed
    assert index in read


async def _plan(db: Connection, query: str, *arguments: Any) -> str:
    return "\n".join(row[0] for row in await db.fetch(f"explain {query}", *arguments))


async def test_a_replay_is_no_sign_of_life(dead_letters: DeadLetters, doors: Doors) -> None:
    await doors.signal("known", HEARTBEAT)
    await dead_letters.db.execute("update presence set state = 'offline', reason = 'silence'")
    await dead_letters.put(body("e", metrics={"x": 1}), device_id="known")
    await dead_letters.put(body("e", metrics={"x": 1}), device_id="new")
    assert counts(await dead_letters.replay()) == (2, 2, 0, 0)
    rows = await dead_letters.db.fetch(
        "select device_id, state, last_seen from presence join device using (device_no) order by 1"
    )
    assert [tuple(row)[:2] for row in rows] == [("known", "offline"), ("new", "never_seen")]
    assert rows[1]["last_seen"] is None


async def test_replayed_events_raise_alerts_like_any_other(dead_letters: DeadLetters) -> None:
    await dead_letters.allow()
    await dead_letters.db.execute(
        """begin; insert into rule (metric, op, threshold, severity, for_s, cooldown_s, notify, enabled,
            in_force_from)
        values ('soc_percent', '>', 100, 'warning', 0, 0, 'every', true, '2026-01-01');
        update config set rules_version = rules_version + 1; commit"""
    )
    await dead_letters.put(body("hot"))
    await dead_letters.replay()
    incident = await fetch_row(dead_letters.db, "select opened_by, opened_at from incident")
    assert tuple(incident) == ("hot", ARRIVAL)


async def test_a_dead_letter_waits_for_a_database_that_refuses_to_write(
    dead_letters: DeadLetters, doors: Doors
) -> None:
    await dead_letters.allow()
    number = await dead_letters.put(body("e"))
    await dead_letters.db.execute("alter table event rename to hidden")
    waiting = asyncio.create_task(dead_letters.replay())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await dead_letters.open() == [number]
    await dead_letters.db.execute("alter table hidden rename to event")
    again = await dead_letters.replay()
    assert again.counts.stored + again.counts.duplicate == 1
    assert len(await dead_letters.events()) == 1


async def test_live_events_and_dead_letters_share_the_pipeline(
    dead_letters: DeadLetters, doors: Doors
) -> None:
    await dead_letters.allow()
    for n in range(200):
        await dead_letters.put(body(f"e{n}"), device_id=f"d{n % 5}")
    live = [doors.publish(f"d{n % 5}", body(f"e{n}")) for n in range(200)]
    outcome, verdicts = await asyncio.gather(dead_letters.replay(), asyncio.gather(*live))
    statuses = Counter(verdict.status for (verdict,) in verdicts)
    assert outcome.counts.stored + statuses[Status.STORED] == 200
    assert outcome.counts.duplicate + statuses[Status.DUPLICATE] == 200
    assert len(await dead_letters.events()) == 200
