"""The questions of the TSBS IoT benchmark about a fleet of trucks, one HTTP call each, compared with SQL.

The set is our own: trucks that send readings and diagnostics, registered with their fleet, driver and
capacity. Eleven of the thirteen questions are here. Four of them count buckets of ten minutes that meet a
condition: the response of the call has those buckets, and the test counts its rows. The other two, average
daily driving session and breakdown frequency, need the runs of such buckets (how long, how many): no call
answers them.
"""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
import pytest

from scheduler.rollups import roll
from schema.database import Connection
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow

TRUCKS, EVENTS_OF_A_TRUCK, EVERY = 12, 60, timedelta(minutes=5)
START = datetime(2026, 2, 1, 21, tzinfo=UTC)  # Two days, half of the events on each.
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
            fleet, model = FLEETS[truck % 3], list(MODELS)[truck % 2]
            tags = [
                f"fleet:{fleet}",
                f"driver:{truck}",
                f"capacity:{capacity}",
                f"of:{fleet} {model}",
            ]
            await client.put(f"/v1/devices/truck_{truck}", json={"tags": tags, "profile": "open"})
            response = await client.post("/v1/events/batch", json=events_of(truck, random))
            assert {item["status"] for item in response.json()} == {"stored"}
        yield client


async def asked(http: httpx.AsyncClient, **parameters: Any) -> dict[tuple[str, ...], list[float]]:
    """The statistics of each group."""
    usual = {"from_time": START.isoformat(), "to_time": END.isoformat(), "interval": CENTURY}
    response = await http.get(PATH, params=usual | parameters)
    assert response.status_code == httpx.codes.OK, response.text
    rows = [list(row.values())[1:] for row in response.json()]
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
    await check_counts_of_buckets(http, db)


async def asked_buckets(http: httpx.AsyncClient, **parameters: Any) -> list[tuple[str, ...]]:
    """Which group met the condition in which ten minutes: the bucket, the device, and its tag if asked."""
    usual = {"from_time": START.isoformat(), "to_time": END.isoformat(), "interval": "10m"}
    response = await http.get(PATH, params=usual | {"stats": "avg"} | parameters)
    assert response.status_code == httpx.codes.OK, response.text
    return [
        tuple(value for value in row.values() if isinstance(value, str)) for row in response.json()
    ]


async def counted(db: Connection, sql: str) -> Counter[tuple[str, ...]]:
    """The last column is how many buckets the group of the others has."""
    found = Counter({tuple(row.values())[:-1]: row["n"] for row in await db.fetch(sql)})
    assert found, sql
    return found


def buckets_in_sql(metric: str, condition: str, since: datetime = START) -> str:
    return (
        "select device_id, d.tags, date_bin('10 minutes', ts, 'epoch') as bucket from event"
        f" join device d using (device_no) where metrics ? '{metric}' and ts >= '{since}' and ts < '{END}'"
        f" group by 1, 2, 3 having avg({VALUE.format(metric)}) {condition}"
    )


async def check_counts_of_buckets(http: httpx.AsyncClient, db: Connection) -> None:
    driven = {"metric": "velocity", "having": "avg>1", "group_by": "device"}
    for question, hours, more_than in (("long-driving", 4, 21), ("long-daily", 24, 26)):
        since = END - timedelta(hours=hours)
        rows = await asked_buckets(
            http, from_time=since.isoformat(), device_tag="fleet:West", **driven
        )
        buckets = Counter((device,) for _, device in rows)
        long = (
            f"select device_id, count(*) as n from ({buckets_in_sql('velocity', '> 1', since)}) found"
            f" where 'fleet:West' = any(tags) group by 1 having count(*) > {more_than}"
        )
        found = {truck: n for truck, n in buckets.items() if n > more_than}
        assert found == await counted(db, long), question
        assert len(found) < len(buckets), question

    rows = await asked_buckets(
        http, **driven | {"group_by": "device,device_tag"}, device_tag_prefix="driver:"
    )
    daily = Counter((driver, device, bucket[:10]) for bucket, device, driver in rows)
    duration = (
        f"select tag, device_id, (bucket at time zone 'UTC')::date::text, count(*) as n"
        f" from ({buckets_in_sql('velocity', '> 1')}) found, unnest(tags) tag where tag ~ '^driver:'"
        " group by 1, 2, 3"
    )
    assert daily == await counted(db, duration), "avg-daily-driving-duration"
    assert len({day for *_, day in daily}) == 2

    rows = await asked_buckets(
        http, metric="status", having="avg<1", group_by="device,device_tag", device_tag_prefix="of:"
    )
    active = Counter((of, bucket[:10]) for bucket, _, of in rows)
    activity = (
        "select tag, (bucket at time zone 'UTC')::date::text, count(*) as n"
        f" from ({buckets_in_sql('status', '< 1')}) found, unnest(tags) tag where tag ~ '^of:' group by 1, 2"
    )
    assert active == await counted(db, activity), "daily-activity"


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
