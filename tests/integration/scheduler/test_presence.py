"""Signs of life in, silence out: time is made to pass by moving what the database remembers."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from ingestor.decode.presence import HEARTBEAT, WILL, PresenceSignal, read_status
from ingestor.mqtt.canary import queries as canary_queries
from scheduler.silence import sweep
from schema.database import Connection, fetch_row
from schema.feed import read_feed
from tests.integration.conftest import Doors

OFFLINE_AFTER_S = 300


async def canary_returned(db: Connection) -> None:
    """The canary has been coming back for a long time."""
    await db.execute(
        "insert into canary values ('test', now() - interval '1 day', now())"
        " on conflict (client_id) do update set received_at = clock_timestamp()"
    )


async def seen_ago(db: Connection, seconds: float, **columns: Any) -> None:
    """The last sign of life of every device was that long ago; the sweep finds them all due.

    Silence counts up to the canary, which returns at the same instant: a busy machine changes nothing.
    """
    sets = "".join(f", {name} = {value}" for name, value in columns.items())
    await db.execute(
        "with returned as (update canary set received_at = statement_timestamp()"
        "                  where received_at > statement_timestamp() - interval '10 s')"
        f" update presence set last_seen = statement_timestamp() - make_interval(secs => {seconds}),"
        f" will_at = will_at - make_interval(secs => {seconds}), check_at = '-infinity'{sets}"
    )


async def state(db: Connection) -> tuple[str, str]:
    row = await fetch_row(db, "select state, reason from presence")
    return row["state"], row["reason"]


async def presence_feed(db: Connection) -> list[str]:
    return [item.state for item in await read_feed(db, 0) if item.kind == "presence"]


def status(payload: bytes) -> PresenceSignal:
    sign = read_status(payload)
    assert sign is not None
    return sign


async def test_an_unknown_interval_makes_offline_after_the_setting_and_never_late(
    doors: Doors, db: Connection
) -> None:
    await canary_returned(db)
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, OFFLINE_AFTER_S - 1)
    assert await sweep(db, OFFLINE_AFTER_S) == 0
    await seen_ago(db, OFFLINE_AFTER_S + 3)
    assert await sweep(db, OFFLINE_AFTER_S) == 1
    assert await state(db) == ("offline", "silent")
    assert await presence_feed(db) == ["online", "offline"]


@pytest.mark.parametrize(
    ("born", "died", "expected"),
    [
        ("s2", "s1", "online"),
        ("s2", "s2", "offline"),
        ("s2", None, "offline"),
        (None, "s1", "offline"),
    ],
)
async def test_the_will_of_an_earlier_session_takes_no_living_device_offline(
    doors: Doors, db: Connection, born: str | None, died: str | None, expected: str
) -> None:
    def named(word: str, session: str | None) -> PresenceSignal:
        return status(
            msgspec.json.encode({"state": word} | ({"session": session} if session else {}))
        )

    await canary_returned(db)
    await doors.signal("a", named("online", "s1"))
    await doors.signal("a", named("online", born))
    assert await db.fetchval("select session from presence") == born
    await doors.publish("a", {"event_id": "e1", "metrics": {"x": 1}})
    await doors.signal("a", named("offline", died))
    await seen_ago(db, 11)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == expected
    assert await db.fetchval("select session from presence") == born


async def test_late_at_one_and_a_half_intervals_and_offline_at_two(
    doors: Doors, db: Connection
) -> None:
    await canary_returned(db)
    await doors.signal("a", HEARTBEAT)
    for seconds, expected in ((149, "online"), (153, "late"), (199, "late"), (203, "offline")):
        await seen_ago(db, seconds, interval_s=100)
        await sweep(db, OFFLINE_AFTER_S)
        assert (await state(db))[0] == expected, seconds
    assert await presence_feed(db) == ["online", "late", "offline"]


async def test_offline_comes_never_sooner_than_ten_seconds(doors: Doors, db: Connection) -> None:
    await canary_returned(db)
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, 9, interval_s=1)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == "late"
    await seen_ago(db, 11, interval_s=1)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == "offline"


async def test_an_announced_sleep_rules_that_one_silence(doors: Doors, db: Connection) -> None:
    await canary_returned(db)
    await doors.signal("a", status(b'{"state":"asleep","wake_in_s":3600}'))
    await doors.signal("a", WILL)
    await seen_ago(db, 5300, interval_s=10)
    await sweep(db, OFFLINE_AFTER_S)
    assert await state(db) == ("asleep", "asleep")
    await seen_ago(db, 5403, interval_s=10)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == "late"
    await doors.publish("a", {"metrics": {"x": 1}})
    assert await state(db) == ("online", "telemetry")
    await seen_ago(db, 25, interval_s=10)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == "offline", "the sleep ruled one silence only"


async def test_a_will_alone_makes_offline_after_ten_seconds_and_life_takes_it_back(
    doors: Doors, db: Connection
) -> None:
    await canary_returned(db)
    await doors.signal("a", HEARTBEAT)
    await doors.signal("a", WILL)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == "online"
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, 11)
    await sweep(db, OFFLINE_AFTER_S)
    assert (await state(db))[0] == "online"
    await doors.signal("a", WILL)
    await seen_ago(db, 11)
    await sweep(db, OFFLINE_AFTER_S)
    assert await state(db) == ("offline", "will")


async def test_the_will_of_a_device_that_never_spoke_leaves_it_never_seen(
    doors: Doors, db: Connection
) -> None:
    await canary_returned(db)
    await doors.signal("a", WILL)
    await db.execute("update presence set check_at = '-infinity'")
    assert await sweep(db, OFFLINE_AFTER_S) == 0
    assert await state(db) == ("never_seen", "first message")
    assert await presence_feed(db) == []
    assert await db.fetchval("select count(*) from incident") == 0
    await doors.signal("a", HEARTBEAT)
    assert await presence_feed(db) == ["online"]


async def test_telemetry_of_a_device_that_is_online_is_noted_and_takes_back_a_will(
    doors: Doors, db: Connection
) -> None:
    event = {"metrics": {"temp": 20}}
    await doors.publish("a", event | {"event_id": "e1"})
    await doors.signal("a", WILL)
    await seen_ago(db, 30)
    await doors.publish("a", event | {"event_id": "e2"})
    row = await fetch_row(db, "select state, will_at, now() - last_seen as ago from presence")
    assert (row["state"], row["will_at"]) == ("online", None)
    assert row["ago"] < timedelta(seconds=10)
    assert await presence_feed(db) == ["online"]


async def test_telemetry_counts_though_its_device_is_called_offline_at_that_moment(
    doors: Doors, db: Connection, dsn: str
) -> None:
    await doors.publish("a", {"metrics": {"temp": 20}, "event_id": "e1"})
    await seen_ago(db, 400)
    waits = "select exists (select from pg_locks where not granted)"
    other = await asyncpg.connect(dsn)
    async with other.transaction():
        await other.execute("update presence set state = 'offline', reason = 'silent'")
        coming = asyncio.create_task(
            doors.publish("a", {"metrics": {"temp": 21}, "event_id": "e2"})
        )
        async with asyncio.timeout(60):
            while not await db.fetchval(waits):  # noqa: ASYNC110  # What another session does.
                await asyncio.sleep(0.01)
    await coming
    await other.close()
    assert (await state(db))[0] == "online"
    assert await presence_feed(db) == ["online", "online"]


async def test_offline_opens_an_incident_that_life_resolves(doors: Doors, db: Connection) -> None:
    await canary_returned(db)
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, 400)
    await sweep(db, OFFLINE_AFTER_S)
    await sweep(db, OFFLINE_AFTER_S)
    await doors.publish("a", b"rejected, but alive")
    alerts = [item for item in await read_feed(db, 0) if item.kind == "alert"]
    assert [(item.rule_id, item.state) for item in alerts] == [
        ("silent", "firing"),
        ("silent", "resolved"),
    ]
    assert await db.fetchval("select count(*) from incident where resolved_at is null") == 0


async def test_no_device_is_evaluated_while_the_canary_is_missing(
    doors: Doors, db: Connection
) -> None:
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, 4000)
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "no ingestor ever listened"
    await canary_returned(db)
    await db.execute("update canary set received_at = now() - interval '11 s'")
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "the canary is gone"


async def test_our_own_downtime_is_not_the_devices_silence(doors: Doors, db: Connection) -> None:
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, 4000)
    await db.execute("insert into canary values ('test', now() - interval '60 s', now())")
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "the canary is back for a minute only"
    await db.execute("update canary set since = now() - interval '303 s'")
    await seen_ago(db, 4000)
    assert await sweep(db, OFFLINE_AFTER_S) == 1


async def test_a_device_is_not_late_for_a_time_whose_messages_still_wait(
    doors: Doors, db: Connection
) -> None:
    """The canary waits with them. Without that a pause of the writers would make every fast device late."""
    await canary_returned(db)
    await doors.signal("a", HEARTBEAT)
    await seen_ago(db, 8, interval_s=3)
    await db.execute("update canary set received_at = now() - interval '7 s'")
    assert await sweep(db, OFFLINE_AFTER_S) == 0
    await canary_returned(db)
    assert await sweep(db, OFFLINE_AFTER_S) == 1


async def test_an_ingestor_that_was_stopped_for_15_minutes_makes_none_of_1000_living_devices_offline(
    doors: Doors, db: Connection
) -> None:
    """Half of them have an interval of a minute, half of them none; one of them really died."""
    await db.execute(
        "insert into device (device_id) select 'd' || n from generate_series(1, 1000) n;"
        "insert into presence (device_no, state, last_seen, check_at, interval_s)"
        " select device_no, 'online', now() - interval '15 min', now() - interval '13 min',"
        " case when device_no % 2 = 0 then 60 end from device;"
        "insert into canary values ('test', now() - interval '1 day', now() - interval '15 min')"
    )
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "we do not receive yet"
    await doors.publish("d1", {"metrics": {"x": 1}})  # The backlog comes before the canary.
    assert await sweep(db, OFFLINE_AFTER_S) == 0
    await db.execute(canary_queries.record_canary, "test")
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "silence counts from now on"
    await asyncio.gather(*(doors.signal(f"d{number}", HEARTBEAT) for number in range(2, 1000)))
    await db.execute("update presence set check_at = '-infinity'")
    await db.execute("update canary set since = now() - interval '119 s'")
    assert await sweep(db, OFFLINE_AFTER_S) == 1, "the one that died"
    row = await fetch_row(db, "select * from presence where state <> 'online'")
    assert (row["device_no"], row["state"], row["reason"]) == (1000, "late", "silent")
    await db.execute("update presence set check_at = '-infinity'")
    await db.execute("update canary set since = now() - interval '122 s', received_at = now()")
    await sweep(db, OFFLINE_AFTER_S)
    assert await presence_feed(db) == ["late", "offline"]


async def test_an_instance_receives_only_while_each_of_its_members_does(
    doors: Doors, db: Connection
) -> None:
    """Messages for the member that receives nothing wait in its session and may be signs of life."""
    await db.execute(
        "insert into ingest_member select name, 'i', n, '{}'"
        " from unnest(array['one', 'two']) with ordinality member (name, n)"
    )
    await doors.signal("a", HEARTBEAT)
    await db.execute("insert into canary values ('one', now() - interval '1 day', now())")
    await seen_ago(db, 4000)
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "the second never listened"
    await db.execute(
        "insert into canary values ('two', now() - interval '1 day', now() - interval '11 s')"
    )
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "its canary is gone"
    await db.execute("update canary set since = now(), received_at = now() where client_id = 'two'")
    assert await sweep(db, OFFLINE_AFTER_S) == 0, "both have just begun to receive"
    await db.execute(
        "update canary set received_at = now() - interval '11 s' where client_id = 'two'"
    )
    await db.execute("delete from ingest_member where client_id = 'two'")
    await seen_ago(db, 4000)
    assert await sweep(db, OFFLINE_AFTER_S) == 1, "the second is no member any more"


async def test_what_another_member_brings_late_does_not_end_a_sleep(
    doors: Doors, db: Connection
) -> None:
    """The device said it before it fell asleep; members have no order among each other."""
    asleep, telemetry = status(b'{"state":"asleep","wake_in_s":3600}'), {"metrics": {"x": 1}}
    await db.execute("insert into ingest_member values ('one', 'i', 1, '{}')")
    await doors.signal("a", asleep)
    await doors.publish("a", telemetry)
    assert await state(db) == ("online", "telemetry"), "one alone keeps the order"
    await db.execute("insert into ingest_member values ('two', 'i', 2, '{}')")
    await doors.signal("a", asleep)
    await doors.publish("a", telemetry)
    assert await state(db) == ("asleep", "asleep")
    await seen_ago(db, 11)
    await doors.publish("a", telemetry)
    assert await state(db) == ("online", "telemetry"), "it is awake again"
    await doors.signal("a", asleep)
    await doors.signal("a", HEARTBEAT)
    assert await state(db) == ("online", "heartbeat")


async def test_two_sweeps_at_once_make_one_change(doors: Doors, db: Connection, dsn: str) -> None:
    await canary_returned(db)
    for n in range(20):
        await doors.signal(f"d{n}", HEARTBEAT)
    await seen_ago(db, 400)
    others = [await asyncpg.connect(dsn) for _ in range(3)]
    changed = await asyncio.gather(*(sweep(other, OFFLINE_AFTER_S) for other in others))
    for other in others:
        await other.close()
    assert sum(changed) == 20
    assert (await presence_feed(db)).count("offline") == 20


@pytest.mark.parametrize("payload", [b"", b"unknown", b"{", b'{"state":"late"}'])
def test_a_status_that_means_nothing_is_no_sign(payload: bytes) -> None:
    assert read_status(payload) is None
