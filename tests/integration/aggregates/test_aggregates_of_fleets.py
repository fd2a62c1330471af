"""Aggregates of several metrics and of registered tags, with conditions, chosen intervals and columns."""

from typing import Any

import httpx
import pytest
import pytest_asyncio

from scheduler.rollups import roll
from schema.database import Connection
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = {"from_time": "2026-02-01T00:00:00Z", "to_time": "2026-02-02T00:00:00Z"}
PATH = "/v1/metrics/aggregate"


def event(number: int, device_id: str, minute: int, **metrics: float) -> dict[str, Any]:
    timestamp = f"2026-02-01T10:{minute:02}:00Z"
    common = {"event_id": str(number), "device_id": device_id, "timestamp": timestamp}
    return common | {"metrics": metrics, "tags": [f"n:{number}"]}


EVENTS = [
    event(1, "a", 0, fuel=10, velocity=0),
    event(2, "a", 1, fuel=20, velocity=30),
    event(3, "b", 1, fuel=30, velocity=50),
    event(4, "b", 2, fuel=50),
]


async def fill(client: httpx.AsyncClient) -> None:
    await client.post("/v1/events/batch", json=EVENTS)
    await client.put("/v1/devices/a", json={"tags": ["fleet:south", "driver:1"]})
    await client.put("/v1/devices/b", json={"tags": ["fleet:south", "fleet:all"]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(http_of_the_file: httpx.AsyncClient) -> httpx.AsyncClient:
    """For tests that only read."""
    await fill(http_of_the_file)
    return http_of_the_file


async def asked(http: httpx.AsyncClient, **parameters: Any) -> httpx.Response:
    return await http.get(PATH, params=DAY | {"metric": "fuel", "interval": "1d"} | parameters)


async def rows(http: httpx.AsyncClient, **parameters: Any) -> list[list[Any]]:
    """The values of each row but its bucket."""
    response = await asked(http, **parameters)
    assert response.status_code == httpx.codes.OK, response.text
    return [list(row.values())[1:] for row in response.json()]


async def test_a_fleet_is_described_by_tags_metrics_and_conditions(http: httpx.AsyncClient) -> None:
    both = ["fuel", "velocity"]
    assert await rows(http, metric=both, stats="count,max") == [
        ["fuel", 4, 50],
        ["velocity", 3, 50],
    ]
    assert await rows(http, device_tag="driver:1", stats="sum") == [[30]]
    assert await rows(http, device_tag=["driver:1", "fleet:all"], stats="sum") == []
    found = await rows(http, group_by="device_tag,device", device_tag_prefix="fleet:", stats="sum")
    assert found == [["fleet:all", "b", 80], ["fleet:south", "a", 30], ["fleet:south", "b", 80]]
    found = await rows(http, group_by=["tag", "device"], tag_prefix="n:4", stats="count")
    assert found == [["n:4", "b", 1]]
    assert await rows(http, where=["velocity>0", "velocity<5e+1"], stats="sum") == [[20]]
    assert await rows(http, where="velocity!=30", stats="count") == [[2]]
    assert await rows(http, group_by="device", having="avg>=40", stats="avg") == [["b", 40]]


@pytest.mark.asyncio(loop_scope="function")
async def test_devices_by_registered_tags_are_answered_from_rollups(
    dsn: str, db: Connection
) -> None:
    """Reading their events would take a second for a few days of a hundred devices."""
    query: dict[str, Any] = {"device_tag": "fleet:south", "interval": "1h", "group_by": "device"}
    async with api_on(dsn) as http:
        await fill(http)
        before = await rows(http, **query)
        assert len(before) == 2
        await roll(db)
        await db.execute("delete from event")
        assert await rows(http, **query) == before


async def test_what_having_leaves_out_is_filled(http: httpx.AsyncClient) -> None:
    range_of = {"from_time": "2026-02-01T10:00:00Z", "to_time": "2026-02-01T10:03:00Z"}
    found = await rows(
        http, **range_of, interval="1m", stats="count,max", having="max!=30", fill="previous"
    )
    assert found == [[1, 10], [0, 10], [1, 50]]


async def test_columns_are_an_object_or_one_per_group(http: httpx.AsyncClient) -> None:
    bucket = "2026-02-01T00:00:00Z"
    one = await asked(http, format="columns", stats="count,sum")
    assert one.json() == {"bucket": [bucket], "count": [4], "sum": [110]}
    none = await asked(http, format="columns", stats="avg", metric="nothing")
    assert none.json() == {"bucket": [], "avg": []}
    each = await asked(
        http, format="columns", stats="sum", group_by="device", device_tag="fleet:all"
    )
    assert each.json() == [{"device_id": "b", "bucket": [bucket], "sum": [80]}]


async def test_an_automatic_interval_is_named(http: httpx.AsyncClient) -> None:
    for max_points, interval in ((24, "1h"), (23, "2h"), (1, "1d"), (None, "5m")):
        points = {} if max_points is None else {"max_points": max_points}
        response = await asked(http, interval="auto", **points)
        assert (response.status_code, response.headers["X-Interval"]) == (200, interval)
    future = {"from_time": "2199-01-01T00:00:00Z", "to_time": "2199-01-02T00:00:00Z"}
    response = await asked(http, interval="auto", **future)
    assert (response.json(), response.headers["X-Interval"]) == ([], "1s")
    assert "X-Interval" not in (await asked(http)).headers


async def test_too_many_rows_name_an_interval_that_fits(http: httpx.AsyncClient) -> None:
    for more, interval in (({}, "2s"), ({"group_by": "device"}, "5s")):
        refused = await asked(http, interval="1s", fill="null", **more)
        assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
        assert f"more than 50000 rows; interval={interval} would fit" in refused.json()["detail"]
        assert (await asked(http, interval=interval, fill="null", **more)).is_success


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"where": "velocity"}, "where: 'velocity' must be a name, one of >, >=, <"),
        ({"where": "velocity>fast"}, "where: 'fast' must be a finite number"),
        ({"where": "velocity>1e999"}, "where: '1e999' must be a finite number"),
        ({"where": ["a>1"] * 17}, "where"),
        ({"having": "p95>1"}, "having: 'p95' is not one of the requested statistics"),
        ({"having": "avg=1"}, "having: 'avg=1' must be a name"),
        (
            {"group_by": "device,device"},
            "group_by: it must be one or two of device, tag, device_tag",
        ),
        ({"group_by": "device,tag,device_tag"}, "group_by: it must be one or two"),
        ({"group_by": "metric"}, "group_by: it must be one of"),
        ({"tag_prefix": "room:"}, "tag_prefix: it needs group_by=tag"),
        (
            {"device_tag_prefix": "x", "group_by": "tag"},
            "device_tag_prefix: it needs group_by=device_tag",
        ),
        ({"max_points": 10}, "max_points: it needs interval=auto"),
        ({"max_points": 0, "interval": "auto"}, "max_points"),
        ({"format": "table"}, "format: it must be one of rows, columns"),
        ({"metric": "a\0"}, "metric: it must not contain NUL"),
    ],
)
async def test_a_wrong_parameter_is_named(
    http: httpx.AsyncClient, parameters: dict[str, Any], part: str
) -> None:
    response = await asked(http, **parameters)
    assert response.status_code == httpx.codes.UNPROCESSABLE_ENTITY, response.text
    assert part in response.text
