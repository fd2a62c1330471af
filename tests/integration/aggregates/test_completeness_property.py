"""Loss accounting against brute force: random events, late and in any order, between runs of the roller."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from scheduler.rollups import roll
from schema.database import Connection
from tests.integration.conftest import Doors
from tests.support.http.http_api import all_pages, api_on
from tests.support.oracle.completeness import completeness_of, expected_in_all, gaps_of

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "12"))
SEED = int(os.environ.get("PROPERTY_SEED", "1"))
HOUR = timedelta(hours=1)
HOURS = 30  # Of a case, up to now.
EVENTS_MAX = 60
STEPS = (1, 1, 1, 1, 1, 2, 2, 3, 50, 0, 0, 1_000_000, 1_000_001, 5_000_000)


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


class Case:
    """The events of one device as it made them; some are lost, the others arrive in batches, in any order."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.device = f"d{seed}"
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.first = self.now.replace(minute=0, second=0) - HOURS * HOUR
        self.made = [event for event in self._make() if self.random.random() < 0.9]
        self.arrived: list[tuple[datetime, int]] = []

    def _make(self) -> list[tuple[datetime, int | None]]:
        at, seq = self.first, self.random.choice((0, 7, 2**52))
        made: list[tuple[datetime, int | None]] = []
        mean_s = HOURS * 3600 / EVENTS_MAX
        while len(made) < EVENTS_MAX:
            if self.random.random() < 0.9:
                at += timedelta(seconds=round(self.random.expovariate(1 / mean_s)))
            if self.random.random() < 0.1:
                at = at.replace(minute=0, second=0) + HOUR
            if at >= self.now:
                break
            seq = (
                self.random.randrange(9)
                if self.random.random() < 0.03
                else seq + self.random.choice(STEPS)
            )
            made.append((at, seq if self.random.random() < 0.9 else None))
        return made

    def batches(self) -> list[list[Any]]:
        """Mostly in order; some events come late."""
        late = {
            id(event): self.random.randrange(EVENTS_MAX)
            for event in self.made
            if self.random.random() < 0.3
        }
        order = sorted(range(len(self.made)), key=lambda n: n + late.get(id(self.made[n]), 0))
        cuts = sorted(self.random.choices(range(len(order) + 1), k=3))
        return [
            [self._event(n) for n in order[a:b]]
            for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)
        ]

    def _event(self, n: int) -> dict[str, Any]:
        at, seq = self.made[n]
        event = {
            "event_id": f"e{n}", "device_id": self.device, "timestamp": at.isoformat(), "metrics": {"x": 1},
        }  # fmt: skip
        return event if seq is None else event | {"seq": seq}

    def arrive(self, batch: list[dict[str, Any]]) -> None:
        self.arrived += [
            (datetime.fromisoformat(event["timestamp"]), event["seq"])
            for event in batch
            if "seq" in event
        ]

    def an_instant(self) -> datetime:
        at = self.first + timedelta(seconds=self.random.randrange(HOURS * 3600))
        return at.replace(minute=0, second=0) if self.random.random() < 0.5 else at


async def back_to(db: Connection, instant: datetime) -> None:
    """Every hour from an instant on is open again; what there was of other cases counts no more."""
    await db.execute("update rollup_state set closing = $1, closed = $1", instant)
    await db.execute("truncate rollup, seq_rollup, rollup_mark")


def shown_instant(at: datetime) -> str:
    return quote(at.isoformat())


async def check_range(http: httpx.AsyncClient, case: Case, start: datetime, end: datetime) -> None:
    query = f"from_time={shown_instant(start)}&to_time={shown_instant(end)}"
    limit = case.random.choice((1, 3, 100))
    gaps = await all_pages(http, f"/v1/devices/{case.device}/gaps?{query}&limit={limit}")
    found = [
        (datetime.fromisoformat(gap["from_time"]), gap["after_seq"],
         datetime.fromisoformat(gap["to_time"]), gap["before_seq"], gap["missing"])
        for gap in gaps
    ]  # fmt: skip
    assert found == [
        (*gap.before, *gap.after, gap.missing) for gap in gaps_of(case.arrived, start, end)
    ], (case.device, start, end)


async def check_day(http: httpx.AsyncClient, case: Case, day: datetime, tz: str) -> None:
    url = f"/devices/{case.device}/summary?date={day.date()}&tz={tz}"
    response = (await http.get(url)).json().get("completeness")
    offset = {"UTC": timedelta(0), "Asia/Kolkata": timedelta(hours=5.5)}[tz]
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - offset
    expected, received, missing = completeness_of(case.arrived, start, start + timedelta(days=1))
    if received == 0:
        assert response is None
        return
    percent = received * 10_000 // expected / 100
    assert response == {
        "expected": expected, "received": received, "missing": missing, "percent": percent,
    }, (case.device, day, tz)  # fmt: skip


async def check_list(http: httpx.AsyncClient, case: Case) -> None:
    now = datetime.now(UTC)
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=24)
    expected, received, _ = completeness_of(case.arrived, start, now)
    shown = (await http.get(f"/v1/devices/{case.device}")).json()["completeness_percent"]
    if expected == 0:
        assert shown is None
        return
    assert shown == pytest.approx(received * 10_000 // expected / 100)
    listed = (await http.get(f"/v1/devices?q={case.device}")).json()
    assert {
        device["completeness_percent"] for device in listed if device["device_id"] == case.device
    } == {shown}


@pytest.mark.parametrize("seed", range(SEED, SEED + EXAMPLES))
async def test_completeness_and_gaps_are_those_of_brute_force(
    doors: Doors, db: Connection, http: httpx.AsyncClient, seed: int
) -> None:
    case = Case(seed)
    await back_to(db, case.first)
    for batch in filter(None, case.batches()):
        await doors.post(batch)
        case.arrive(batch)
        for _ in range(3):
            start, end = sorted((case.an_instant(), case.an_instant()))
            if start < end:
                await check_range(http, case, start, end)
        await check_range(http, case, case.first - HOUR, case.now + HOUR)
        for tz in ("UTC", "Asia/Kolkata"):
            await check_day(http, case, case.an_instant(), tz)
        if case.random.random() < 0.7:
            await roll(db, case.an_instant().replace(minute=0, second=0))
    await roll(db)
    await check_list(http, case)
    everything = completeness_of(case.arrived, case.first, case.now)[0]
    assert everything == expected_in_all(case.arrived)
