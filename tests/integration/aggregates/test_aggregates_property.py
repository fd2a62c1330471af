"""Random cases: after any sequence of sending, rolling up and retiring, responses equal those of brute force.

A case is a seed and a day. PROPERTY_EXAMPLES sets the number of cases, PROPERTY_SEED the first seed.
"""

import asyncio
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from runtime.metrics import Metrics
from scheduler.retention import retain
from scheduler.rollups import roll
from schema.database import WRITER_SESSION, connect
from tests.integration.conftest import Doors
from tests.support.http.http_api import api_on
from tests.support.oracle.buckets import (
    TooManyRows,
    midnight,
)
from tests.support.oracle.comparison import (
    difference,
    is_number,
    read,
    shown_number,
)
from tests.support.oracle.oracle import aggregate, needs_raw_before, shortest_interval, summary
from tests.support.oracle.query import AggregateQuery
from tests.support.oracle.random_cases import DAYS, VALUES, RandomCase

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "2"))
FIRST_SEED = int(os.environ.get("PROPERTY_SEED", "0"))
STAGES = 4
CONNECTIONS = 4  # As many as the pool of tests/support/http/http_api.py: no request waits for one.
QUERIES, SUMMARIES = 15, 3  # Per check.
EVENTS_SHOWN = 25
ANSWER_S_MAX = 60
PROFILE = ("soc_percent", "voltage_v", "current_a", "temp_c")


@dataclass
class Api:
    """Queries the real application and compares with brute force."""

    client: httpx.AsyncClient
    case: RandomCase
    floor: datetime | None = None
    moving_to: datetime | None = None  # It becomes the floor at an unknown moment.
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTIONS))

    async def get(self, path: str, parameters: Any) -> httpx.Response:
        """Send it as a client would: 503 means that the machine is busy, and is answered by a retry."""
        async with self.slots, asyncio.timeout(ANSWER_S_MAX):
            while True:
                response = await self.client.get(path, params=parameters)
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return response

    async def check(self, happened: str) -> None:
        """Send several random queries at once, then compare the responses."""
        queries = [self.case.query() for _ in range(QUERIES)]
        days = [self.case.day() for _ in range(SUMMARIES)]
        responses = await asyncio.gather(
            *(self.get("/v1/metrics/aggregate", q.parameters) for q in queries),
            *(
                self.get(f"/devices/{device_id}/summary", {"date": str(day), "tz": tz})
                for device_id, day, tz in days
            ),
        )
        faults = list(map(self.fault_of_aggregate, queries, responses))
        faults += map(self.fault_of_summary, days, responses[QUERIES:])
        if found := sorted(filter(None, faults), key=len):
            pytest.fail(
                f"After {happened}: {len(found)} wrong responses.\n\n{found[0]}", pytrace=False
            )

    def _floor(self, response: httpx.Response) -> datetime | None:
        return (
            self.moving_to if "available_from" in response.text and self.moving_to else self.floor
        )

    def fault_of_aggregate(self, query: AggregateQuery, response: httpx.Response) -> str | None:
        if query.interval == "auto":
            return self._fault_of_auto(query, response)
        if (floor := self._floor(response)) is not None and needs_raw_before(floor, query):
            fault = _not_available(response, floor)
        else:
            try:
                expected = aggregate(self.case.events, query, self.case.device_tags)
            except TooManyRows:
                refused = response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
                fault = None if refused else f"{response.status_code}, expected 422: too many rows"
            else:
                columns_of = query.keys if query.columns else None
                fault = _not_ok(response) or difference(
                    expected, response.text, query.tz, columns_of
                )
        if fault is None:
            return None
        concerned = [
            f"{event.ts.isoformat()} {event.device_id} {event.event_id}"
            f" {event.metrics} {event.tags}"
            for event in sorted(self.case.events, key=lambda event: event.ts)
            if set(query.metrics) & set(event.metrics) and query.start <= event.ts < query.end
        ]
        head = (fault, str(response.url), repr(query), f"{len(concerned)} events:")
        return "\n".join((*head, *concerned[:EVENTS_SHOWN]))

    def _fault_of_auto(self, query: AggregateQuery, response: httpx.Response) -> str | None:
        """While retention moves the floor, the interval may be that of before or of afterwards."""
        events, tags = self.case.events, self.case.device_tags
        expected = {
            shortest_interval(events, query, tags, floor)
            for floor in {self.floor, self.moving_to or self.floor}
        }
        given = response.headers.get("X-Interval")
        if given not in expected:
            return (
                f"X-Interval {given}, expected one of {expected}: {query!r} {response.text[:300]}"
            )
        if given is None:
            refused = response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
            return None if refused else f"{response.status_code}, expected 422"
        return self.fault_of_aggregate(replace(query, interval=given, max_points=None), response)

    def fault_of_summary(
        self, day_of: tuple[str, date, str], response: httpx.Response
    ) -> str | None:
        device_id, day, tz = day_of
        start, end = midnight(day, tz), midnight(day + timedelta(days=1), tz)
        whole_day = AggregateQuery("", start, end, interval="1d", tz=tz)
        if (floor := self._floor(response)) is not None and needs_raw_before(floor, whole_day):
            fault = _not_available(response, floor)
        else:
            found = summary(self.case.events, device_id, day, tz, PROFILE)
            head = {"device_id": device_id, "date": str(day), "tz": tz}
            fault = _not_ok(response) or _differs(read(response.text), head, found)
        return fault and f"{fault}\n{response.url}"


async def register(api: Api) -> None:
    device_id, tags = api.case.registration()
    response = await api.client.put(f"/v1/devices/{device_id}", json={"tags": tags})
    assert response.is_success, response.text


async def send(doors: Doors, case: RandomCase) -> None:
    for _ in range(case.random.randint(1, 4)):
        body, statuses = case.post(case.random.randint(1, 60))
        verdicts = await doors.post(body)
        assert [str(verdict.status) for verdict in verdicts] == statuses


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + EXAMPLES))
async def test_every_answer_is_that_of_brute_force(seed: int, dsn: str, doors: Doors) -> None:
    now = datetime.now(UTC)
    case = RandomCase(seed, now)
    roller = await connect(dsn, "test roller", WRITER_SESSION)
    async with api_on(dsn) as client:
        api = Api(client, case)
        if case.chance(0.5):  # As if all events were older than the first rollup.
            old = (now - timedelta(days=DAYS + 10)).replace(minute=0, second=0, microsecond=0)
            await roller.execute("update rollup_state set closing = $1, closed = $1", old)
        for stage in range(STAGES):
            await send(doors, case)
            await register(api)
            await register(api)
            await api.check(f"stage {stage}, sending")
            closing = case.closing()
            if case.chance(0.5):
                await asyncio.gather(roll(roller, closing), send(doors, case))
            else:
                await asyncio.gather(roll(roller, closing), api.check(f"stage {stage}, rolling"))
            await api.check(f"stage {stage}, closing {closing}")
        await roll(roller)
        assert await roller.fetchval("select count(*) from rollup_mark") == 0
        await api.check("rolling everything up")
        days = case.random.randrange(30, DAYS)
        api.moving_to = (now - timedelta(days=days)).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        retiring = retain(roller, days, now, Metrics(), lambda *_, **__: None)
        await asyncio.gather(retiring, api.check(f"retiring what is older than {api.moving_to}"))
        api.floor, api.moving_to = api.moving_to, None
        case.retire(api.floor)
        await api.check(f"retiring what was older than {api.floor}")
        await send(doors, case)
        await roll(roller)
        await api.check(f"sending after that, floor {api.floor}")
    roller.terminate()


def _not_ok(response: httpx.Response) -> str | None:
    if response.status_code == httpx.codes.OK:
        return None
    return f"{response.status_code}: {response.text}"


def _differs(body: Any, head: dict[str, str], metrics: dict[str, dict[str, Any]]) -> str | None:
    if list(body) != [*head, "metrics"] or body != body | head:
        return f"{body}, expected {head}"
    if body["metrics"].keys() != metrics.keys():
        return f"{body['metrics'].keys()}, expected {metrics.keys()}"
    for name, values in metrics.items():
        got = body["metrics"][name]
        if list(got) != list(values) or not all(is_number(values[k], got[k]) for k in values):
            shown = {stat: shown_number(value) for stat, value in values.items()}
            return f"{name}: {got}, expected {shown}"
    return None


def _not_available(response: httpx.Response, floor: datetime) -> str | None:
    if response.status_code != httpx.codes.UNPROCESSABLE_ENTITY:
        return f"{response.status_code}, expected 422 because of the floor: {response.text[:300]}"
    available_from = response.json().get("available_from")
    if available_from is None or datetime.fromisoformat(available_from) != floor:
        return f"expected available_from {floor}: {response.text}"
    return None


def test_the_random_cases_hold_every_value() -> None:
    case = RandomCase(0, datetime.now(UTC))
    for _ in range(20):
        case.post(50)
    assert {name for event in case.events for name in event.metrics} == set(VALUES)
