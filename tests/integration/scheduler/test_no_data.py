"""Rules of `no_data`: time is made to pass by moving what the database remembers."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ingestor.decode.presence import HEARTBEAT, read_status
from scheduler.no_data import DuePair, Facts, check, sweep_no_data
from scheduler.silence import sweep
from schema.database import WRITER_SESSION, Connection, connect, fetch_row
from schema.feed import commit, read_feed
from tests.integration.conftest import Doors, make_pipeline
from tests.support.database.rules import insert_rule
from tests.support.http.http_api import api_on

FOR_S = 600
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def _canary_returns(db: Connection) -> None:
    await db.execute(
        "insert into canary values ('test', now() - interval '1 day', now() + interval '1 hour')"
    )


async def add_rule(db: Connection, **changes: Any) -> str:
    rule = {"condition": "no_data", "for_s": float(FOR_S), "channels": ["ops"]}
    return await insert_rule(db, **rule | changes)


async def send(doors: Doors, event_id: str, device_id: str = "a", **more: Any) -> None:
    event = {"event_id": event_id, "device_id": device_id, "metrics": {"temp": 20}} | more
    (verdict,) = await doors.post(event)
    assert verdict.status == "stored"


async def pass_time(db: Connection, seconds: float) -> None:
    """Everything that the database remembers of pairs, rules and sleep was that much earlier."""
    past = f"make_interval(secs => {seconds})"
    await db.execute(
        f"update alert_state set received_at = received_at - {past}, check_at = check_at - {past},"
        f" notified_at = notified_at - {past}"
    )
    await db.execute(f"update rule set in_force_from = in_force_from - {past}")
    await db.execute(
        "update outbox set body = (body::jsonb || jsonb_build_object('since', rfc3339("
        f"(body ->> 'since')::timestamptz - {past})))::json where kind = 'presence'"
    )


async def alerts(db: Connection) -> list[tuple[str, str, Any, bool]]:
    bodies = [msgspec.json.decode(i.body) for i in await read_feed(db, 0) if i.kind == "alert"]
    return [(b["device_id"], b["state"], b["event_id"], b["muted"]) for b in bodies]


async def to_channels(db: Connection) -> list[str]:
    rows = await db.fetch("select state from outbox where channels = '{ops}' order by block, n")
    return [row["state"] for row in rows]


async def until_one_waits(db: Connection, table: str) -> None:
    """Until a statement about the table waits for another transaction."""
    while True:
        waiting = await db.fetchval(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ $1",
            table,
        )
        if waiting:
            return
        await asyncio.sleep(0.01)


async def test_a_metric_that_stops_opens_an_incident_and_its_next_value_resolves_it(
    doors: Doors, db: Connection
) -> None:
    rule_id = await add_rule(db)
    await send(doors, "e1")
    await pass_time(db, FOR_S - 1)
    assert await sweep_no_data(db) == 0
    await pass_time(db, 4)
    assert await sweep_no_data(db) == 1
    assert await sweep_no_data(db) == 0
    await send(doors, "other", metrics={"hum": 1})
    row = await fetch_row(db, "select * from incident")
    assert (row["rule_id"], row["metric"], row["op"], row["resolved_at"]) == (
        rule_id, "temp", None, None,
    )  # fmt: skip
    silence = row["opened_at"] - await db.fetchval("select received_at from alert_state")
    assert FOR_S <= silence.total_seconds() <= FOR_S + 3
    await send(doors, "e2")
    row = await fetch_row(db, "select * from incident")
    assert row["resolved_by"] == "e2"
    assert row["resolved_at"] > row["opened_at"]
    assert await alerts(db) == [("a", "firing", None, False), ("a", "resolved", "e2", False)]
    assert await to_channels(db) == ["firing", "resolved"]
    await pass_time(db, FOR_S + 4)
    assert await sweep_no_data(db) == 1


async def test_a_new_value_counts_when_it_arrives_and_a_duplicate_is_none(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    await send(doors, "e1")
    await pass_time(db, FOR_S - 5)
    await send(doors, "old", timestamp="2026-01-01T00:00:00Z")
    await pass_time(db, FOR_S - 5)
    assert await sweep_no_data(db) == 0
    await doors.post({"event_id": "e1", "device_id": "a", "metrics": {"temp": 20}})
    await pass_time(db, 10)
    assert await sweep_no_data(db) == 1


async def test_the_devices_that_sent_the_metric_before_the_rule_are_watched_from_its_creation(
    doors: Doors, db: Connection
) -> None:
    for device_id in ("a", "b", "gone"):
        await send(doors, "e1", device_id)
    await send(doors, "e1", "rolled", timestamp="2026-01-01T00:00:00Z")
    await send(doors, "e1", "late", timestamp="2026-01-02T00:00:00Z")
    await send(doors, "e1", "other", metrics={"hum": 1})
    await db.execute(
        "insert into rollup select device_no, 'temp', '2026-01-01', 1, 1, 1, 1, 1, 1, '2026-01-01', 'e1',"
        " 1, '2026-01-01', 'e1' from device where device_id = 'rolled';"
        " delete from event using device where device.device_no = event.device_no and device_id = 'rolled';"
        " update rollup_state set closing = date_trunc('hour', now()), closed = date_trunc('hour', now());"
        " insert into rollup_mark select device_no, '2026-01-02' from device where device_id = 'late';"
        " update presence set state = 'never_seen' from device"
        " where device.device_no = presence.device_no and device_id = 'gone'"
    )
    await add_rule(db)
    await add_rule(db, device_id="b")
    await add_rule(db, tag="room:1")
    assert await sweep_no_data(db) == 0
    watched = await db.fetch(
        "select device_id from alert_state join device using (device_no) order by device_id"
    )
    assert [row["device_id"] for row in watched] == ["a", "b", "b", "late", "rolled"]
    await pass_time(db, FOR_S + 4)
    assert await sweep_no_data(db) == 5


async def test_a_device_that_never_sent_the_metric_is_not_missed(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    await send(doors, "e1", metrics={"hum": 1})
    await doors.signal("b", HEARTBEAT)
    assert await sweep_no_data(db) == 0
    assert await db.fetchval("select count(*) from alert_state") == 0


async def test_time_in_which_we_could_not_receive_does_not_count(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    await send(doors, "e1")
    await pass_time(db, FOR_S + 10)
    await db.execute("update canary set received_at = now() - interval '11 s'")
    assert await sweep_no_data(db) == 0
    await db.execute("update canary set received_at = now(), since = now() - interval '5 s'")
    assert await sweep_no_data(db) == 0
    await pass_time(db, FOR_S)
    await db.execute("update canary set since = now() - make_interval(secs => 605)")
    assert await sweep_no_data(db) == 1


async def test_announced_sleep_does_not_count(doors: Doors, db: Connection) -> None:
    await add_rule(db)
    await send(doors, "e1")
    await pass_time(db, 100)
    asleep = read_status(b'{"state":"asleep","wake_in_s":86400}')
    assert asleep is not None
    await doors.signal("a", asleep)
    await pass_time(db, 10_000)
    assert await sweep_no_data(db) == 0
    await doors.signal("a", HEARTBEAT)
    await pass_time(db, FOR_S - 110)
    assert await sweep_no_data(db) == 0
    await pass_time(db, 15)
    assert await sweep_no_data(db) == 1


async def test_a_silence_mutes_an_incident_and_its_end_tells_the_channels(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    await db.execute(
        "insert into silence (device_id, starts_at, ends_at) values ('a', now(), now() + interval '1 day')"
    )
    await send(doors, "e1")
    await pass_time(db, FOR_S + 4)
    assert await sweep_no_data(db) == 1
    assert await alerts(db) == [("a", "firing", None, True)]
    await pass_time(db, 10)
    await sweep_no_data(db)
    assert await to_channels(db) == []
    await db.execute("delete from silence")
    await pass_time(db, 10)
    await sweep_no_data(db)
    assert await alerts(db) == [("a", "firing", None, True), ("a", "firing", None, False)]
    await send(doors, "e2")
    assert await to_channels(db) == ["firing", "resolved"]


@pytest.mark.parametrize(
    "silence", ["device_id) values ('a'", "tag) values ('loud'"], ids=["device", "tag of the event"]
)
async def test_what_ends_under_a_silence_is_muted(
    doors: Doors, db: Connection, silence: str
) -> None:
    await add_rule(db)
    await send(doors, "e1")
    await pass_time(db, FOR_S + 4)
    await sweep_no_data(db)
    columns, values = silence.split(")", 1)
    await db.execute(
        f"insert into silence ({columns}, starts_at, ends_at){values}, now(), now() + interval '1 day')"
    )
    await send(doors, "e2", tags=["loud"])
    assert await alerts(db) == [("a", "firing", None, False), ("a", "resolved", "e2", True)]
    assert await to_channels(db) == ["firing", "resolved"], "channels get the end of what they got"


async def test_a_device_that_returns_while_channels_are_told_of_its_silence(
    dsn: str, doors: Doors, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute(
        "insert into channel (name, url, shown_url, silent, delivered_id) values ('ops', '', '', true, 0);"
        "insert into silence (device_id, starts_at, ends_at) values ('a', now(), now() + interval '1 day')"
    )
    await send(doors, "e1")
    await db.execute(
        "update presence set last_seen = now() - interval '1 hour', check_at = '-infinity'"
    )
    assert await sweep(db, 300) == 1
    await db.execute("delete from silence")
    telling, go_on = asyncio.Event(), asyncio.Event()

    async def commit_later(*arguments: Any) -> None:
        telling.set()
        await go_on.wait()
        await commit(*arguments)

    monkeypatch.setattr("scheduler.no_data.commit", commit_later)
    scheduler = await connect(dsn, "scheduler", WRITER_SESSION)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(sweep_no_data(scheduler))
        await telling.wait()
        group.create_task(send(doors, "e2"))
        await until_one_waits(db, "alert_state")
        go_on.set()
    await scheduler.close()
    assert await to_channels(db) == ["firing", "resolved"]


async def test_a_cooldown_goes_by_the_time_of_receipt_and_what_it_suppressed_is_owed(
    doors: Doors, db: Connection
) -> None:
    await add_rule(db, cooldown_s=3600.0)
    await send(doors, "e1")
    await pass_time(db, FOR_S + 4)
    await sweep_no_data(db)
    await send(doors, "e2")
    await pass_time(db, FOR_S + 4)
    assert await sweep_no_data(db) == 1
    assert len(await alerts(db)) == 2
    await pass_time(db, 3600 - FOR_S)
    await sweep_no_data(db)
    assert [state for _, state, *_ in await alerts(db)] == ["firing", "resolved", "firing"]
    assert await db.fetchval("select count(*) from incident") == 2


async def test_a_shorter_cooldown_counts_for_what_the_former_one_holds_back(
    dsn: str, doors: Doors, db: Connection
) -> None:
    rule = {"metric": "temp", "condition": "no_data", "for_s": FOR_S, "cooldown_s": 86_400}
    async with api_on(dsn) as http:
        rule_id = (await http.post("/v1/alerts", json=rule)).json()["id"]
        for event_id in ("e1", "e2"):
            await send(doors, event_id)
            await pass_time(db, FOR_S + 4)
            await sweep_no_data(db)
        assert [state for _, state, *_ in await alerts(db)] == ["firing", "resolved"]
        response = await http.put(f"/v1/alerts/{rule_id}", json=rule | {"cooldown_s": FOR_S})
        assert response.status_code == 200
    await sweep_no_data(db)
    assert [state for _, state, *_ in await alerts(db)] == ["firing", "resolved", "firing"]


async def test_a_value_and_a_sweep_at_the_same_moment_leave_one_consistent_state(
    dsn: str, doors: Doors, db: Connection
) -> None:
    await add_rule(db)
    other, _ = make_pipeline(dsn, "other")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run(stop))
        both = (doors, Doors(other, doors.health))
        for step in range(20):
            await send(doors, f"first-{step}")
            await pass_time(db, FOR_S + 4)
            await asyncio.gather(
                sweep_no_data(db), *(send(each, f"{step}-{n}") for n, each in enumerate(both))
            )
            open_now = await db.fetchval("select count(*) from incident where resolved_at is null")
            assert open_now == await db.fetchval(
                "select count(*) from alert_state where incident_id is not null"
            )
        stop.set()
    states = [state for _, state, *_ in await alerts(db)]
    assert states == ["firing", "resolved"] * (len(states) // 2) + ["firing"] * (len(states) % 2)


async def test_without_a_rule_of_no_data_nothing_is_remembered(
    doors: Doors, db: Connection
) -> None:
    await db.execute(
        "insert into rule (metric, op, threshold, severity, for_s, cooldown_s, notify, enabled)"
        " values ('temp', '>', 90, 'warning', 0, 0, 'every', true);"
        " update config set rules_version = rules_version + 1"
    )
    await send(doors, "e1")
    assert await db.fetchval("select count(*) from alert_state") == 0


PAIR = DuePair(
    1, "r1", None, incident_notified=False, incident_told=False, notified_at=None
)  # fmt: skip


@pytest.mark.parametrize(
    ("silent_s", "slept_s", "opens"), [(12, 0, True), (10.9, 0, False), (50, 39.5, False), (51, 40, True)]
)  # fmt: skip
def test_a_check_opens_an_incident_once_the_silence_without_sleep_is_long_enough(
    silent_s: float, slept_s: float, *, opens: bool
) -> None:
    facts = Facts(NOW, NOW - timedelta(seconds=silent_s), slept_s, 10, 0, muted=False)
    checked = check(PAIR, facts)
    assert (checked.opened_at is not None) is opens
    if not opens:
        assert checked.check_at is not None
        assert checked.check_at > NOW
