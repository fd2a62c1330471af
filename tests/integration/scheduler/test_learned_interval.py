"""The learned interval: time is made to pass by moving what the database remembers."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count

import pytest
import pytest_asyncio

from api.store.registry import queries
from ingestor.decode.presence import HEARTBEAT, WILL, read_status
from scheduler.silence import sweep
from schema.database import Connection
from tests.integration.conftest import Doors, open_doors

pytestmark = pytest.mark.asyncio(loop_scope="module")

OFFLINE_AFTER_S = 300
ASLEEP = read_status(b'{"state":"asleep","wake_in_s":3600}')


numbers = count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(database: str) -> AsyncIterator[Doors]:
    async with open_doors(database) as doors:
        yield doors


@pytest_asyncio.fixture(loop_scope="module")
async def db(tables: Connection) -> Connection:
    """We have been receiving for ten days, and nothing from any device."""
    await tables.execute(
        "delete from event; delete from event_key; delete from presence; delete from device;"
        "update config set registry_version = registry_version + 1; delete from canary;"
        "insert into canary values ('test', now() - interval '10 days', now())"
    )
    return tables


async def passes(db: Connection, seconds: float, *, received: bool = True) -> None:
    """Let time pass for every device; without `received` it is our own outage."""
    await db.execute(
        f"update presence set last_seen = last_seen - interval '{seconds} s',"
        f" span_ends = span_ends - interval '{seconds} s', since = since - interval '{seconds} s',"
        f" check_at = check_at - interval '{seconds} s', will_at = will_at - interval '{seconds} s'"
    )
    since = f"since - interval '{seconds} s'" if received else "now()"
    await db.execute(f"update canary set since = {since}, received_at = clock_timestamp()")


class Sender:
    """A device that sends an event after each gap."""

    def __init__(self, doors: Doors, db: Connection) -> None:
        self.doors, self.db = doors, db

    async def speak(self) -> None:
        event = {"event_id": f"e{next(numbers)}", "metrics": {"x": 1}}
        await self.doors.publish("a", event)

    async def after(self, *gaps: float) -> float | None:
        """Returns the learned interval."""
        for gap in gaps:
            await passes(self.db, gap)
            await self.speak()
        return await self.learned()

    async def learned(self) -> float | None:
        learned: float | None = await self.db.fetchval("select learned_s from presence")
        return None if learned is None else round(learned, 1)


@pytest_asyncio.fixture(loop_scope="module")
async def sender(doors: Doors, db: Connection) -> Sender:
    sender = Sender(doors, db)
    await sender.speak()
    return sender


async def test_an_interval_is_learned_from_five_gaps(sender: Sender) -> None:
    assert await sender.after(60, 60, 60, 60) is None
    assert await sender.after(60) == pytest.approx(60, abs=0.5)


async def test_every_sign_of_life_teaches_but_a_will_does_not(
    sender: Sender, doors: Doors, db: Connection
) -> None:
    for _ in range(5):
        await passes(db, 20)
        await doors.signal("a", WILL)
        await passes(db, 5)
        await doors.signal("a", HEARTBEAT)
    assert await sender.learned() == pytest.approx(25, abs=0.5)


async def test_messages_within_a_second_count_as_one(sender: Sender) -> None:
    for _ in range(5):
        await sender.after(60, 0.3, 0.3, 0)
    assert await sender.learned() == pytest.approx(60.6, abs=1)


@pytest.mark.parametrize("length", [3, 20])
async def test_the_rhythm_of_bursts_is_learned_and_not_their_spacing(
    sender: Sender, length: int
) -> None:
    for _ in range(3):
        await sender.after(600, *[2] * length)
    for _ in range(4):
        assert await sender.after(600, *[2] * length) == pytest.approx(600, abs=1)


async def test_a_burst_that_comes_first_is_corrected_by_the_third_pause(sender: Sender) -> None:
    assert await sender.after(*[2] * 30) == pytest.approx(2, abs=0.5)
    assert await sender.after(600, *[2] * 30, 600, *[2] * 30, 600) == pytest.approx(600, abs=1)


async def test_an_upload_of_buffered_events_teaches_no_short_interval(sender: Sender) -> None:
    await sender.after(*[60] * 12)
    await sender.after(7200, *[1.5] * 60)
    assert await sender.after(60) == pytest.approx(60, abs=1)


async def test_two_long_silences_teach_nothing(sender: Sender) -> None:
    await sender.after(*[60] * 10)
    assert await sender.after(86_400, 60, 60, 7200) == pytest.approx(60, abs=1)


async def test_a_slower_rhythm_is_learned_from_three_gaps(sender: Sender) -> None:
    await sender.after(*[60] * 10)
    assert await sender.after(900, 900) == pytest.approx(60, abs=1)
    assert await sender.after(900) == pytest.approx(900, abs=1)


async def test_a_silence_of_days_delays_a_new_rhythm_by_an_hour_at_most(sender: Sender) -> None:
    await sender.after(*[60] * 10)
    assert await sender.after(5 * 86_400, *[900] * 7) == pytest.approx(900, abs=1)


async def test_a_faster_rhythm_is_learned_within_fifteen_old_intervals(sender: Sender) -> None:
    await sender.after(*[900] * 7)
    assert await sender.after(*[300] * (15 * 900 // 300)) == pytest.approx(300, abs=1)


async def test_gaps_with_an_announced_sleep_teach_nothing(
    sender: Sender, doors: Doors, db: Connection
) -> None:
    await sender.after(*[60] * 5)
    assert ASLEEP is not None
    for sleep in (ASLEEP, read_status(b"asleep")) * 4:
        assert sleep is not None
        await passes(db, 60)
        await doors.signal("a", sleep)
        await passes(db, 9000)
        await sweep(db, OFFLINE_AFTER_S)
        await sender.speak()
    assert await sender.after(60) == pytest.approx(60, abs=1)


async def test_time_in_which_we_could_not_receive_teaches_nothing(
    sender: Sender, db: Connection
) -> None:
    await sender.after(*[60] * 5)
    for _ in range(7):
        await passes(db, 3600, received=False)
        await sender.speak()
        await sender.after(60)
    assert await sender.after(60) == pytest.approx(60, abs=1)
    await db.execute("delete from canary")
    for _ in range(5):
        await sender.after(3600)
    assert await sender.learned() == pytest.approx(60, abs=1), "nobody says that we received"


async def test_a_backlog_written_before_our_canary_returns_teaches_nothing(
    sender: Sender, db: Connection
) -> None:
    await sender.after(*[60] * 5)
    for _ in range(5):
        await passes(db, 3600)
        await db.execute("update canary set received_at = now() - interval '3600 s'")
        await sender.speak()
    assert await sender.learned() == pytest.approx(60, abs=1)


async def test_silence_is_noticed_at_the_learned_interval(sender: Sender, db: Connection) -> None:
    await sender.after(*[20] * 5)
    for after, expected in ((29, "online"), (3, "late"), (8, "late"), (3, "offline")):
        await passes(db, after)
        await sweep(db, OFFLINE_AFTER_S)
        assert await db.fetchval("select state from presence") == expected


@pytest.mark.parametrize("heartbeat", [False, True])
async def test_the_first_silence_after_learning_is_noticed_at_once(
    sender: Sender, doors: Doors, db: Connection, *, heartbeat: bool
) -> None:
    """The check of a device without an interval was set for minutes later."""
    for _ in range(5):
        await passes(db, 20)
        await (doors.signal("a", HEARTBEAT) if heartbeat else sender.speak())
    due = await db.fetchval("select check_at - last_seen from presence")
    assert due <= timedelta(seconds=31)


async def test_a_deleted_device_has_learned_nothing(sender: Sender, db: Connection) -> None:
    await sender.after(*[60] * 7)
    await db.fetch(queries.forget_presence, await db.fetchval("select device_no from presence"))
    assert await sender.learned() is None
