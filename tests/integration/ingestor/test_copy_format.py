"""What is written in the binary format of COPY is what PostgreSQL reads."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from random import Random
from typing import Any

import msgspec
import pytest

from ingestor.batch import Message, Row
from ingestor.decode.acceptance import Origin
from ingestor.store.copy_format import COLUMNS, EventCopy
from schema.database import Connection
from schema.event import MAX_EXACT_INTEGER, DeviceNo, Door, Event
from schema.instants import epoch_us

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TEXTS = ("a", "room:101", "\u00e9", "\u65e5\u672c", "\U0001f50b", '"', "\\", "{}", "x" * 128)
NUMBERS = (0, -1, 67.5, 1e300, 5e-324, -0.1, 2**53 - 1, -(2**53) + 1, 1e22)


def chance_event(random: Random) -> Event:
    """Each field anywhere in what an event may hold."""
    return Event(
        device_id="a",
        event_id="".join(random.choices(TEXTS, k=random.randint(1, 3))),
        ts_us=epoch_us(NOW) - random.randrange(10**13),
        metrics={f"m{n}": random.choice(NUMBERS) for n in range(random.randint(1, 64))},
        tags=random.choices(TEXTS, k=random.randrange(33)),
        seq=random.choice((None, 0, 1, MAX_EXACT_INTEGER - 1)),
        received_us=epoch_us(NOW) - random.randrange(10**13),
    )


def rows(events: list[Event]) -> list[Row]:
    message = Message(Door.MQTT, b"", Origin(epoch_us(NOW)), lambda _: None)
    return [
        Row(DeviceNo(n * 1000), event, message, 0, 0) for n, event in enumerate(events, start=1)
    ]


def doubles(metrics: dict[str, float]) -> dict[str, float]:
    """Jsonb keeps 1e22 as its digits; read back it is the same double."""
    return {name: float(value) for name, value in metrics.items()}


async def copied(db: Connection, events: list[Event]) -> list[tuple[Any, ...]]:
    """What the table holds after the COPY, in the order of the rows."""
    await db.execute("truncate event")
    source = BytesIO(EventCopy()(rows(events)))
    await db.copy_to_table("event", source=source, columns=COLUMNS, format="binary")
    found = await db.fetch(f"select {', '.join(COLUMNS)} from event order by device_no")
    return [tuple(row) for row in found]


@pytest.mark.parametrize("seed", range(3))
async def test_every_event_is_read_back_as_it_was(db: Connection, seed: int) -> None:
    random = Random(seed)
    events = [chance_event(random) for _ in range(500)]
    expected = [
        (
            n * 1000, each.ts, each.event_id, doubles(each.metrics), each.tags, each.seq,
            each.received_at,
        )
        for n, each in enumerate(events, start=1)
    ]  # fmt: skip
    found = [
        (*row[:3], doubles(msgspec.json.decode(row[3])), *row[4:])
        for row in await copied(db, events)
    ]
    assert found == expected


async def test_a_batch_may_be_empty(db: Connection) -> None:
    assert await copied(db, []) == []


@pytest.mark.parametrize(
    "instant",
    [
        NOW.replace(microsecond=999_999),
        NOW.replace(microsecond=1),
        NOW - timedelta(days=1, microseconds=1),
    ],
)
async def test_no_microsecond_is_lost(db: Connection, instant: datetime) -> None:
    event = Event("a", "e", epoch_us(instant), {"x": 1}, ["t", "t"], 0, epoch_us(instant))
    ((_, ts, _, _, tags, seq, received_at),) = await copied(db, [event])
    assert (ts, received_at, tags, seq) == (instant, instant, ["t", "t"], 0)
