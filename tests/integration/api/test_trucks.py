"""The questions of the TSBS IoT benchmark about a fleet of trucks, one HTTP call each, compared with SQL.

The set is our own: trucks that send readings and diagnostics, registered with their fleet, driver and
capacity. Long driving sessions, long daily sessions, average daily driving duration and session, daily
activity and breakdown frequency are left out: they count runs of buckets, which no single call does.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
import pytest

from scheduler.rollups import roll
from schema.database import Connection
from tests.support.http_api import api_on

pytestmark = pytest.mark.slow

TRUCKS, EVENTS_OF_A_TRUCK, EVERY = 12, 60, timedelta(minutes=5)
START = datetime(2026, 2, 1, 8, tzinfo=UTC)
END = START + EVENTS_OF_A_TRUCK * EVERY
FLEETS, MODELS = ("South", "West", "North"), {"F-150": 2000, "G-2000": 5000}
PATH, CENTURY = "/v1/metrics/aggregate", "1200mo"
VALUE = "(metrics ->> '{}')::float8"
# The newest value of a metric of each truck.
LAST = (
    "select distinct on (device_id) device_id, {value} as value from event join device d using (device_no)"
    " where metrics ? '{metric}' and {fleet} order by device_id, ts desc"
)


def events_of(truck: int, random: Random) -> list[dict[str, Any]]:
    """Half of the trucks stand still for the last half hour. Both kinds of event have their own metrics."""
    found = []
    fuel = random.uniform(0.05, 1)
    for number in range(EVENTS_OF_A_TRUCK):
        stands = random.random() < 0.2 or (truck % 2 and number >= EVENTS_OF_A_TRUCK - 6)
        velocity = random.uniform(0, 0.9) if stands else random.uniform(10, 100)
        readings = {
            "latitude": random.uniform(-90, 90),
            "longitude": random.uniform(-180, 180),
            "velocity": velocity,
            "fuel_consumption": random.uniform(0, 50),
            "nominal_fuel_consumption": 12 + truck % 3,
        }
        fuel = max(fuel - random.uniform(0, 0.02), 0.01)
        diagnostics = {
            "fuel_state": fuel,
            "current_load": random.uniform(0, 5000),
            "status": number % 5,
        }
        for kind, metrics in (("r", readings), ("d", diagnostics)):
            found.append(
                {
                    "device_id": f"truck_{truck}",
                    "event_id": f"{kind}{number}",
                    "timestamp": (START + number * EVERY).isoformat(),
                    "metrics": metrics,
                    "tags": [f"model:{list(MODELS)[truck % 2]}", kind],
                }
            )
    return found


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    random = Random(15)
    async with api_on(dsn) as client:
        for truck in range(TRUCKS):
            capacity = list(MODELS.values())[truck % 2]
            tags = [f"fleet:{FLEETS[truck % 3]}", f"driver:{truck}", f"capacity:{capacity}"]
            await client.put(f"/v1/devices/truck_{truck}", json={"tags": tags, "profile": "open"})
            answer = await client.post("/v1/events/batch", json=events_of(truck, random))
            assert {item["status"] for item in answer.json()} == {"stored"}
        yield client


async def asked(http: httpx.AsyncClient, **parameters: Any) -> dict[tuple[str, ...], list[float]]:
    """The statistics of each group."""
    usual = {"from_time": START.isoformat(), "to_time": END.isoformat(), "interval": CENTURY}
    answer = await http.get(PATH, params=usual | parameters)
    assert answer.status_code == httpx.codes.OK, answer.text
    rows = [list(row.values())[1:] for row in answer.json()]
    return {
        tuple(value for value in row if isinstance(value, str)): [
            value for value in row if not isinstance(value, str)
        ]
        for row in rows
    }


async def selected(db: Connection, sql: str) -> dict[tuple[str, ...], Any]:
    """Texts are the group, numbers its statistics."""
    found = {}
    for row in await db.fetch(sql):
        numbers = [value for value in row.values() if not isinstance(value, str)]
        key = tuple(value for value in row.values() if isinstance(value, str))
        found[key] = pytest.approx(numbers)
    assert found, sql
    return found


def last(metric: str, fleet: str = "true") -> str:
    return LAST.format(value=VALUE.format(metric), metric=metric, fleet=fleet)


async def check(http: httpx.AsyncClient, db: Connection) -> None:
    newest: dict[str, Any] = {"stats": "last", "group_by": "device"}
    both = ["latitude", "longitude"]
    locations = " union all ".join(
        f"(select '{metric}' as metric, * from ({last(metric)}) found)" for metric in both
    )
    assert await asked(http, metric=both, **newest) == await selected(db, locations), "last-loc"
    single = f"select * from ({locations}) found where device_id = 'truck_3'"
    found = await asked(http, metric=both, device_id="truck_3", **newest)
    assert found == await selected(db, single), "single-last-loc"

    fuel_of_south = last("fuel_state", "'fleet:South' = any(d.tags)")
    low = f"select * from ({fuel_of_south}) found where value < 0.3"
    found = await asked(
        http, metric="fuel_state", device_tag="fleet:South", having="last<0.3", **newest
    )
    assert found == await selected(db, low), "low-fuel"

    newest_load = await asked(
        http,
        metric="current_load",
        stats="last",
        group_by="device,device_tag",
        device_tag_prefix="capacity:",
    )
    loaded = {
        (name,) for (name, tag), (load,) in newest_load.items() if load > 0.5 * _capacity(tag)
    }
    high = (
        f"select device_id from ({last('current_load')}) found join device d using (device_id)"
        " where value > 0.5 * (select substr(tag, 10)::float8 from unnest(d.tags) tag"
        " where tag ~ '^capacity:')"
    )
    assert loaded == set(await selected(db, high)), "high-load"

    await check_averages(http, db)


async def check_averages(http: httpx.AsyncClient, db: Connection) -> None:
    ten_minutes = END - timedelta(minutes=10)
    found = await asked(
        http, metric="velocity", from_time=ten_minutes.isoformat(), device_tag="fleet:West",
        group_by="device", stats="avg", having="avg<1",
    )  # fmt: skip
    standing = (
        f"select device_id, avg({VALUE.format('velocity')}) from event join device d using (device_no)"
        f" where ts >= '{ten_minutes}' and 'fleet:West' = any(d.tags) and metrics ? 'velocity'"
        f" group by 1 having avg({VALUE.format('velocity')}) < 1"
    )
    assert found == await selected(db, standing), "stationary-trucks"

    found = await asked(
        http, metric=["fuel_consumption", "nominal_fuel_consumption"], where="velocity>1",
        group_by="device_tag", device_tag_prefix="fleet:", stats="avg",
    )  # fmt: skip
    projected = " union all ".join(
        f"select '{metric}', fleet, avg({VALUE.format(metric)}) from event join device d using (device_no),"
        f" unnest(d.tags) fleet where fleet ~ '^fleet:' and {VALUE.format('velocity')} > 1 group by 2"
        for metric in ("fuel_consumption", "nominal_fuel_consumption")
    )
    assert found == await selected(db, projected), "avg-vs-projected-fuel-consumption"

    found = await asked(
        http, metric="current_load", group_by="device_tag,tag", device_tag_prefix="fleet:",
        tag_prefix="model:", stats="avg",
    )  # fmt: skip
    load = (
        f"select fleet, model, avg({VALUE.format('current_load')})"
        " from event e join device d using (device_no), unnest(d.tags) fleet, unnest(e.tags) model"
        " where fleet ~ '^fleet:' and model ~ '^model:' and metrics ? 'current_load' group by 1, 2"
    )
    assert found == await selected(db, load), "avg-load"


def _capacity(tag: str) -> float:
    return float(tag.removeprefix("capacity:"))


async def test_each_question_about_trucks_is_one_call(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await check(http, db)
    await roll(db)
    assert await db.fetchval("select count(*) from rollup") > 0
    await check(http, db)
