"""What goes in through the doors, and what is in the tables after the verdict."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import pytest

from ingestor.decode.acceptance import Origin
from ingestor.decode.presence import HEARTBEAT, read_status
from ingestor.decode.strict import decode
from runtime.errors import Overloaded
from schema.database import Connection, fetch_row
from schema.event import Reason, Status
from schema.instants import epoch_us
from schema.locks import LANES
from tests.integration.conftest import LIMITS, Doors, make_pipeline
from tests.support.brokers.mqtt import until


def event(event_id: str = "e1", device_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "device_id": device_id, "metrics": {"temp": 20}} | more


async def test_an_event_is_stored_once_and_every_repeat_is_a_duplicate(
    doors: Doors, db: Connection
) -> None:
    (first,) = await doors.post(event())
    (again,) = await doors.post(event(timestamp="2026-01-01T00:00:00Z"))
    (over_mqtt,) = await doors.publish("a", event(metrics={"temp": 99}))
    assert [v.status for v in (first, again, over_mqtt)] == ["stored", "duplicate", "duplicate"]
    row = await fetch_row(db, "select * from event")
    assert row["metrics"] == '{"temp": 20}'


async def test_two_devices_may_use_the_same_event_id(doors: Doors, db: Connection) -> None:
    await doors.post([event(device_id="a"), event(device_id="b")])
    assert await db.fetchval("select count(*) from event") == 2


async def test_the_same_event_fifty_times_over_both_doors_at_once_is_stored_once(
    doors: Doors, db: Connection
) -> None:
    posts = [doors.post(event()) for _ in range(25)]
    published = [doors.publish("a", event()) for _ in range(25)]
    verdicts = await asyncio.gather(*posts, *published)
    assert Counter(v.status for (v,) in verdicts) == {Status.STORED: 1, Status.DUPLICATE: 49}
    assert await db.fetchval("select count(*) from event") == 1


async def test_single_posts_under_way_share_a_transaction_whatever_their_devices(
    doors: Doors, db: Connection
) -> None:
    devices = [f"d{n}" for n in range(8)]
    await doors.post([event("e1", device) for device in devices])
    await asyncio.gather(*(doors.post(event("e2", device)) for device in devices))
    transactions = "select count(distinct xmin::text) from event_key where event_id = $1"
    assert await db.fetchval(transactions, "e1") == 2  # An array is for both writers.
    assert await db.fetchval(transactions, "e2") == 1


async def test_two_processes_share_the_keys(dsn: str, doors: Doors, db: Connection) -> None:
    other, _ = make_pipeline(dsn, "other")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run(stop))
        second = Doors(other, doors.health)
        ids = [f"e{n}" for n in range(40)]
        verdicts = await asyncio.gather(
            *(
                door.post(event(name, f"d{n % 5}"))
                for n, name in enumerate(ids)
                for door in (doors, second)
            )
        )
        stop.set()
    counted = Counter(v.status for (v,) in verdicts)
    assert counted == {Status.STORED: 40, Status.DUPLICATE: 40}
    assert await db.fetchval("select count(*) from event") == 40


@pytest.mark.parametrize("more", [[event("e2")], [{"metrics": {}}]], ids=["stored", "rejected"])
async def test_a_member_that_did_not_receive_the_birth_sends_receipts_all_the_same(
    dsn: str, doors: Doors, more: list[dict[str, Any]]
) -> None:
    other, _ = make_pipeline(dsn, "other")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run(stop))
        second = Doors(other, doors.health)
        await second.publish("a", event("e1"))
        assert not other.wants_receipts("a")
        for wanted in (True, False):
            birth = read_status(json.dumps({"state": "online", "receipts": wanted}).encode())
            assert birth is not None
            await doors.signal("a", birth)
            await second.publish("a", more)
            assert other.wants_receipts("a") is doors.pipeline.wants_receipts("a") is wanted
        stop.set()


async def test_a_bad_item_never_touches_its_neighbours(doors: Doors, db: Connection) -> None:
    verdicts = await doors.publish(
        "a", [event("e1"), {"metrics": {}}, event("e2", metrics={"soc_percent": 101}), event("e3")]
    )
    assert [(v.status, v.reason) for v in verdicts] == [
        ("stored", None),
        ("rejected", Reason.BAD_METRICS),
        ("rejected", Reason.OUT_OF_RANGE),
        ("stored", None),
    ]
    dead_letters = await db.fetch("select * from rejected order by item")
    assert [(row["item"], row["door"], row["device_id"]) for row in dead_letters] == [
        (1, "mqtt", "a"),
        (2, "mqtt", "a"),
    ]
    assert b'"soc_percent":101' in dead_letters[1]["payload"]
    assert "profile battery" in dead_letters[1]["detail"]
    assert "0 to 100" in dead_letters[1]["detail"]


async def test_a_rejected_event_creates_no_device_but_a_known_device_lives(
    doors: Doors, db: Connection
) -> None:
    await doors.publish("unknown", b"not json")
    await doors.publish("unknown", {"metrics": {"soc_percent": -1}})
    await doors.post({"device_id": "unknown", "metrics": {}})
    assert await db.fetchval("select count(*) from device") == 0
    assert await db.fetchval("select count(*) from rejected") == 3


async def test_both_doors_give_the_same_verdict_on_the_same_event(doors: Doors) -> None:
    events = [
        event("x", metrics={"voltage_v": 199}),
        event("y", timestamp="2026-02-30T00:00:00Z"),
        event("z", tags=[1]),
        event("ok"),
    ]
    for document in events:
        (posted,) = await doors.post(document | {"device_id": "p"})
        (published,) = await doors.publish("q", document | {"device_id": "q"})
        assert (posted.status, posted.reason) == (published.status, published.reason)


async def test_an_event_without_identity_is_stored_and_a_retained_one_is_rejected(
    doors: Doors,
) -> None:
    (first,) = await doors.publish("a", {"metrics": {"x": 1}})
    (second,) = await doors.publish("a", {"metrics": {"x": 1}})
    (kept,) = await doors.publish("a", {"metrics": {"x": 1}}, retained=True)
    assert (first.status, second.status) == ("stored", "stored")
    assert first.event_id != second.event_id
    assert kept.reason is Reason.NO_IDENTITY


async def test_an_event_without_id_but_with_a_time_is_recognised_over_both_doors(
    doors: Doors,
) -> None:
    body = {"ts": 1_780_000_000_000, "metrics": {"x": 30.0}, "tags": ["t"]}
    (first,) = await doors.publish("a", body)
    (second,) = await doors.post(body | {"device_id": "a", "metrics": {"x": 30}})
    assert (first.status, second.status) == ("stored", "duplicate")
    assert first.event_id == second.event_id


async def test_what_postgresql_refuses_is_isolated_and_the_rest_is_stored(
    doors: Doors, db: Connection
) -> None:
    await db.execute("alter table event add constraint poison check (event_id not like 'bad%')")
    ids = [f"bad{n}" if n in {0, 17, 18, 49} else f"good{n}" for n in range(50)]
    verdicts = await doors.post([event(name, f"d{n % 3}") for n, name in enumerate(ids)])
    assert [v.event_id for v in verdicts] == ids
    assert {v.event_id for v in verdicts if v.reason is Reason.REFUSED_BY_DATABASE} == {
        "bad0", "bad17", "bad18", "bad49",
    }  # fmt: skip
    assert await db.fetchval("select count(*) from event") == 46
    assert await db.fetchval("select count(*) from event_key") == 46
    assert await db.fetchval("select count(*) from rejected") == 4


async def test_a_missing_grant_holds_the_stream_and_rejects_nothing(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event("before"))
    await db.execute("alter table event rename to hidden")
    waiting = asyncio.create_task(doors.post(event("during")))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert not doors.health.ok
    await db.execute("alter table hidden rename to event")
    (verdict,) = await waiting
    assert verdict.status is Status.STORED
    assert await db.fetchval("select count(*) from rejected") == 0


async def test_a_killed_connection_costs_nothing(doors: Doors, db: Connection) -> None:
    async def killer() -> None:
        for _ in range(20):
            await asyncio.sleep(0.03)
            await db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'test%'"
            )

    async def load() -> Counter[str]:
        counted: Counter[str] = Counter()
        for n in range(60):
            (verdict,) = await doors.post(event(f"e{n}", f"d{n % 7}"))
            counted[verdict.status] += 1
        return counted

    counted, _ = await asyncio.gather(load(), killer())
    assert counted == {Status.STORED: 60}, "a commit in doubt was settled wrongly"
    assert await db.fetchval("select count(*) from event") == 60


async def test_a_changed_profile_holds_for_the_next_event_without_a_restart(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event("e1", metrics={"soc_percent": 50}))
    await db.execute(
        """begin;
        update profile set metrics = '{"soc_percent": {"min": 0, "max": 10}}' where name = 'battery';
        update config set registry_version = registry_version + 1; commit"""
    )
    (verdict,) = await doors.post(event("e2", metrics={"soc_percent": 50}))
    assert verdict.reason is Reason.OUT_OF_RANGE


RAISE_THE_RANGE = """begin;
    update profile set metrics = '{"soc_percent": {"min": 0, "max": 1000}}' where name = 'battery';
    update config set registry_version = registry_version + 1; commit"""


async def test_a_raised_range_holds_for_the_next_event_too(doors: Doors, db: Connection) -> None:
    await doors.post(event("e1", metrics={"soc_percent": 50}))
    await db.execute(RAISE_THE_RANGE)
    verdicts = await doors.post(
        [event(f"e{n}", f"d{n % 3}", metrics={"soc_percent": 101 + n}) for n in range(2, 8)]
    )
    assert {verdict.status for verdict in verdicts} == {Status.STORED}
    assert await db.fetchval("select count(*) from rejected") == 0


async def test_an_unknown_device_whose_event_becomes_valid_while_it_waits_is_registered(
    doors: Doors, db: Connection
) -> None:
    await doors.post([event(device_id=name) for name in "abcd"])
    rows = await db.fetch("select device_no, device_id from device")
    async with db.transaction():
        await db.execute("select pg_advisory_xact_lock(77, lane) from generate_series(0, 15) lane")
        holding = [
            asyncio.create_task(doors.publish(row["device_id"], event("e2", row["device_id"])))
            for row in rows
        ]
        await asyncio.sleep(0.2)
        too_full = {"event_id": "e1", "metrics": {"soc_percent": 150}}
        waiting = asyncio.create_task(doors.publish("unknown", too_full))
        await asyncio.sleep(0.2)
        await db.execute(RAISE_THE_RANGE.removeprefix("begin;").removesuffix("commit"))
    await asyncio.gather(*holding)
    (verdict,) = await waiting
    assert verdict.status is Status.STORED
    assert await db.fetchval("select count(*) from device where device_id = 'unknown'") == 1


async def test_a_thousand_items_out_of_range_are_refused_in_no_time(
    doors: Doors, db: Connection
) -> None:
    items = [event(f"e{n}", metrics={"soc_percent": 101}, note="x" * 150) for n in range(1000)]
    began = process_time()
    verdicts = await doors.post(items)
    assert process_time() - began < 5, "the payload was read once per item"
    assert {verdict.reason for verdict in verdicts} == {Reason.OUT_OF_RANGE}
    assert await db.fetchval("select count(distinct payload) from rejected") == 1000


async def test_a_deleted_device_is_registered_again_by_its_next_event(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event("e1"))
    await db.execute(
        "begin; delete from presence; delete from device;"
        " update config set registry_version = registry_version + 1; commit"
    )
    (verdict,) = await doors.post(event("e2"))
    assert verdict.status is Status.STORED
    assert await db.fetchval("select count(*) from device where device_id = 'a'") == 1


async def test_every_transaction_takes_the_lanes_of_its_devices(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event("e0"))
    number = await db.fetchval("select device_no from device where device_id = 'a'")
    async with db.transaction():
        await db.execute("select pg_advisory_xact_lock(77, $1)", number % LANES)
        waiting = asyncio.create_task(doors.post(event("e1")))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    (verdict,) = await waiting
    assert verdict.status is Status.STORED


async def test_a_heartbeat_makes_a_device(doors: Doors, db: Connection) -> None:
    await doors.signal("beating", HEARTBEAT)
    row = await fetch_row(db, "select state, reason from presence join device using (device_no)")
    assert tuple(row) == ("online", "heartbeat")


async def test_months_of_events_find_their_partitions(doors: Doors, db: Connection) -> None:
    verdicts = await doors.post(
        [
            event(f"e{month}", timestamp=f"2025-{month:02}-28T23:59:59.999999Z")
            for month in range(1, 13)
        ]
    )
    assert {v.status for v in verdicts} == {Status.STORED}
    assert await db.fetchval("select count(distinct tableoid) from event") == 12


async def test_a_refused_row_is_found_by_the_line_of_the_copy_and_not_by_halving(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event("known", "d0"))
    await db.execute("alter table event add constraint poison check (event_id <> 'e0400')")
    before = await db.fetchval("select pg_current_xact_id()::text::bigint")
    # Keys fall while events arrive: the order of the COPY is another than that of arrival.
    verdicts = await doors.post([event(f"e{n:04}", "d0") for n in range(999, -1, -1)])
    spent = await db.fetchval("select pg_current_xact_id()::text::bigint") - before
    assert [v.event_id for v in verdicts if v.status is Status.REJECTED] == ["e0400"]
    assert spent < 10


async def test_a_rejected_item_is_a_sign_of_life_whichever_writer_its_device_has(
    doors: Doors, db: Connection
) -> None:
    await doors.post([event("e0", "d1"), event("e0", "d2")])
    numbers = await db.fetch("select device_no from device order by 1")
    assert len({row["device_no"] % 2 for row in numbers}) == 2
    for good, bad in (("d1", "d2"), ("d2", "d1")):
        await db.execute("update presence set state = 'late'")
        await doors.post([event(f"e-{good}", good), {"device_id": bad, "metrics": {}}])
        assert [row[0] for row in await db.fetch("select state from presence")] == ["online"] * 2


async def test_what_a_wrong_clock_let_in_does_not_hold_up_the_rest(
    dsn: str, doors: Doors, db: Connection
) -> None:
    """Ten years ahead there is no partition, and never will be for an event like this."""
    origin = Origin(epoch_us(datetime.now(UTC) + timedelta(days=3650)))
    payload = json.dumps(event("ahead")).encode()
    ahead = doors.pipeline.submit(payload, origin, decode(payload, origin, LIMITS))
    async with asyncio.timeout(60):
        verdicts, (fine,) = await asyncio.gather(ahead, doors.post(event("fine")))
    assert [verdict.reason for verdict in verdicts] == [Reason.IN_THE_FUTURE]
    assert fine.status is Status.STORED
    assert await db.fetchval("select reason from rejected") == "in_the_future"


@pytest.mark.slow
async def test_an_event_whose_partition_is_still_to_be_made_waits_for_it(
    doors: Doors, db: Connection
) -> None:
    month = datetime.now(UTC).strftime("event_%Y_%m")
    await db.execute(f"alter table event detach partition {month}")
    waiting = asyncio.create_task(doors.post(event()))
    await asyncio.sleep(1)
    assert not waiting.done()
    await db.execute(f"drop table {month}; select make_event_partitions(now(), now())")
    assert [verdict.status for verdict in await waiting] == [Status.STORED]


def on_both_writers(name: str, other: str, count: int) -> list[dict[str, Any]]:
    """Many events of one device, and one of a device that the other writer has."""
    many = [event(f"e{n}", name, metrics={"soc_percent": 50}) for n in range(1, count + 1)]
    return [*many, event("one", other, metrics={"soc_percent": 50})]


@pytest.mark.parametrize("attempt", range(4))
async def test_a_changed_profile_holds_for_both_writers_though_one_of_them_learned_it_first(
    doors: Doors, db: Connection, attempt: int
) -> None:
    await doors.post([event("e0", name) for name in "ab"])
    await db.execute(RAISE_THE_RANGE.replace("1000", "10"))
    verdicts = await doors.post(on_both_writers("ab"[attempt % 2], "ba"[attempt % 2], 900))
    assert {verdict.reason for verdict in verdicts} == {Reason.OUT_OF_RANGE}


@pytest.mark.parametrize("attempt", range(4))
async def test_after_a_failover_no_event_lands_on_the_device_that_had_its_number_before(
    doors: Doors, db: Connection, attempt: int
) -> None:
    """As on a standby that had not got the last devices: numbers mean others there."""
    await doors.post([event("e0", name) for name in "ab"])
    first, second = await fetch_row(db, "select min(device_no), max(device_no) from device")
    await db.execute(
        "alter table device alter column device_no drop identity;"
        f"update device set device_no = {first + second} - device_no + 1000;"
        "update device set device_no = device_no - 1000;"
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    verdicts = await doors.post(on_both_writers("ab"[attempt % 2], "ba"[attempt % 2], 900))
    assert {verdict.status for verdict in verdicts} == {Status.STORED}
    found = await db.fetch(
        "select device_id, count(*) from event join device using (device_no)"
        " where event_id <> 'e0' group by 1"
    )
    assert dict(map(tuple, found)) == {"ab"[attempt % 2]: 900, "ba"[attempt % 2]: 1}


async def test_what_waits_is_bounded_in_bytes_too(dsn: str) -> None:
    pipeline, health = make_pipeline(dsn, waiting_bytes_max=1000)  # Nothing takes from it.
    doors = Doors(pipeline, health)
    waiting = asyncio.create_task(doors.post(event(note="x" * 800)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await doors.post(event("e2", note="x" * 800))
    waiting.cancel()
    assert pipeline.counts.received == 1


async def test_health_says_that_nothing_can_be_stored_though_the_database_answers(
    doors: Doors, db: Connection
) -> None:
    await doors.post(event())
    assert doors.health.checks["storing"][0]
    async with db.transaction():
        await db.execute("alter table event_key rename to away")
        waiting = asyncio.create_task(doors.post(event("e2")))
        await asyncio.sleep(0.2)
    await db.execute("select 1")
    await until(lambda: not doors.health.checks["storing"][0])
    await db.execute("alter table away rename to event_key")
    await waiting
    assert doors.health.checks["storing"][0]


async def test_unresolved_messages_are_not_passed_over_by_the_canary(
    dsn: str, doors: Doors, db: Connection
) -> None:
    """It counts only when everything before it is stored; otherwise a live device would look silent."""
    await doors.post(event())
    async with db.transaction():
        await db.execute("lock table device in access exclusive mode")
        unknown = asyncio.create_task(doors.publish("unknown", event(device_id="unknown")))
        await asyncio.sleep(0.1)
        flushed = asyncio.create_task(doors.pipeline.flushed())
        await asyncio.sleep(0.5)
        assert not flushed.done()
    await asyncio.gather(unknown, flushed)
