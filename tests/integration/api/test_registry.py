"""Devices and profiles over HTTP, and their effect on the next event, in every process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from scheduler.silence import sweep
from schema.database import Connection
from tests.support.http.http_api import all_pages, api_on

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.

OFFLINE_AFTER_S = 300
CANARY_RETURNED = (
    "insert into canary values ('test', now() - interval '1 day', now() + interval '1 day')"
)

BAD_REGISTRATIONS: list[dict[str, Any]] = [
    {"device_id": None},
    {"device_id": "a b"},
    {"id": "a"},
    {"name": ""},
    {"name": "a\nb"},
    {"profile": "nowhere"},
    {"profile": 1},
    {"tags": None},
    {"tags": [""]},
    {"tags": ["x"] * 33},
    {"tags": ["a\0"]},
    {"interval_s": 0},
    {"interval_s": 5e-324},
    {"interval_s": "60"},
    {"interval_s": True},
    {"interval_s": 1e300},
    {"registered": True},
    {"attributes": None},
    {"attributes": ["a"]},
    {"attributes": {"": 1}},
    {"attributes": {"a\nb": 1}},
    {"attributes": {"a" * 129: 1}},
    {"attributes": {"a": True}},
    {"attributes": {"a": None}},
    {"attributes": {"a": {"b": 1}}},
    {"attributes": {"a": 10**400}},
    {"attributes": {"a": "\0"}},
    {"attributes": {"a": "x" * 501}},
    {"attributes": {f"a{n}": n for n in range(65)}},
    {"tz": ""},
    {"tz": 1},
    {"tz": "Mars/Olympus"},
    {"tz": "localtime"},
]
BAD_PROFILES: list[dict[str, Any]] = [
    {"metrics": {"x": {"min": 2, "max": 1}}},
    {"metrics": {"a b": {}}},
    {"metrics": {"x": {"minimum": 2}}},
    {"metrics": {"x": {"min": "2"}}},
    {"metrics": {"x": 2}},
    {"metrics": None},
    {"interval_s": -1},
    {"receipts": 1},
    {"name": "other"},
    {"ranges": {}},
]


@pytest.fixture
async def processes(dsn: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two of them on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(api_on(dsn, f"api {n}")) for n in range(2)]


@pytest.fixture
async def http(processes: list[httpx.AsyncClient]) -> httpx.AsyncClient:
    return processes[0]


async def post_event(
    http: httpx.AsyncClient, event_id: str, device_id: str = "a", **metrics: float
) -> httpx.Response:
    event = {"event_id": event_id, "device_id": device_id, "metrics": metrics or {"temp": 1}}
    return await http.post("/v1/events", json=event)


async def test_a_device_is_registered_once_and_then_shown_as_it_was_registered(
    http: httpx.AsyncClient,
) -> None:
    body = {"device_id": "a", "name": "Häuschen", "profile": "open", "tags": ["x", "y", "x"]}
    response = await http.post("/v1/devices", json=body | {"interval_s": 60})
    assert response.status_code == 201
    shown = response.json()
    assert {name: shown[name] for name in body} == body | {"tags": ["x", "y"]}
    assert (shown["interval_s"], shown["registered"]) == (60, True)
    assert (shown["state"], shown["reason"]) == ("never_seen", "registered")
    assert (await http.get("/v1/devices/a")).json() == shown
    assert (await http.get("/v1/devices?tag=y")).json() == [shown]
    again = await http.post("/v1/devices", json={"device_id": "a"})
    assert (again.status_code, again.json()["status"]) == (409, 409)
    assert (await http.get("/v1/devices/a")).json() == shown


async def test_attributes_are_shown_as_they_were_written_and_numbers_in_their_one_form(
    http: httpx.AsyncClient,
) -> None:
    written = (
        '{"Füße":"ü\\"\\\\","rated_kwh":60.0,"tiny":1e-7,"large":1.5e19,"a.b":-0.0,"empty":""}'
    )
    shown = '{"Füße":"ü\\"\\\\","rated_kwh":60,"tiny":1e-07,"large":1.5e+19,"a.b":0,"empty":""}'
    for method, path in (("POST", "/v1/devices"), ("PUT", "/v1/devices/a")):
        body = f'{{"device_id":"a","tz":"Europe/Berlin","attributes":{written}}}'
        headers = {"Content-Type": "application/json"}
        response = await http.request(method, path, content=body.encode(), headers=headers)
        assert response.is_success, response.text
        assert f'"attributes":{shown},"interval_s":null,"tz":"Europe/Berlin"' in response.text
    for path in ("/v1/devices/a", "/v1/devices?q=a", "/v1/devices?latest=true"):
        assert f'"attributes":{shown},' in (await http.get(path)).text
    await http.put("/v1/devices/b", json={"attributes": {f"n{n}": n for n in range(64)}})
    assert len((await http.get("/v1/devices/b")).json()["attributes"]) == 64
    await http.put("/v1/devices/a", json={})
    replaced = (await http.get("/v1/devices/a")).json()
    assert (replaced["attributes"], replaced["tz"]) == ({}, None)


async def test_a_device_that_exists_from_its_events_can_be_registered(
    http: httpx.AsyncClient,
) -> None:
    await post_event(http, "e1")
    assert not (await http.get("/v1/devices/a")).json()["registered"]
    response = await http.post("/v1/devices", json={"device_id": "a", "name": "n"})
    assert response.status_code == 201
    assert response.json()["state"] == "online"
    assert response.json()["profile"] == "battery"


async def test_put_replaces_the_whole_registration(http: httpx.AsyncClient) -> None:
    body = {"name": "n", "profile": "open", "tags": ["x"], "interval_s": 60}
    response = await http.put("/v1/devices/a", json=body)
    assert response.status_code == 201
    response = await http.put("/v1/devices/a", json={"device_id": "a", "name": "m"})
    assert response.status_code == 200
    shown = response.json()
    assert [shown[name] for name in ("name", "profile", "tags", "interval_s", "registered")] == [
        "m", "battery", [], None, True,
    ]  # fmt: skip
    assert (await http.put("/v1/devices/a", json={"device_id": "b"})).status_code == 422


async def test_an_identical_registration_or_profile_changes_nothing(
    http: httpx.AsyncClient, db: Any
) -> None:
    device = {
        "name": "n", "profile": "mine", "tags": ["x", "y"], "interval_s": 60, "tz": "UTC",
        "attributes": {"a": 1, "b": "x"},
    }  # fmt: skip
    profile = {"metrics": {"x": {"unit": "V", "min": 1}}, "interval_s": 30, "receipts": True}
    same: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("/v1/profiles/mine", profile, profile),
        ("/v1/profiles/mine", profile, {"name": "mine"} | profile),
        ("/v1/profiles/mine", {}, {"metrics": {}, "interval_s": None, "receipts": False}),
        ("/v1/devices/a", device, device),
        ("/v1/devices/a", device, device | {"tags": ["x", "y", "x"], "interval_s": 60.0}),
        ("/v1/devices/a", {}, {"device_id": "a", "name": None, "tags": [], "profile": None}),
    ]
    registry = "select registry_version, (select json_agg(p) from presence p)::text from config"
    for path, before, after in same:
        shown = (await http.put(path, json=before)).json()
        known = await db.fetchrow(registry)
        assert (await http.put(path, json=after)).json() == shown
        assert await db.fetchrow(registry) == known
        await http.put(path, json={})


async def test_a_device_with_events_outlives_its_registration(http: httpx.AsyncClient) -> None:
    await post_event(http, "e1")
    await http.put("/v1/devices/a", json={"name": "n", "profile": "open", "tags": ["x"]})
    response = await http.delete("/v1/devices/a")
    assert (response.status_code, response.content) == (204, b"")
    shown = (await http.get("/v1/devices/a")).json()
    assert [shown[name] for name in ("name", "profile", "tags", "registered")] == [
        None, "battery", [], False,
    ]  # fmt: skip
    assert len((await http.get("/v1/devices/a/events")).json()) == 1
    assert (await http.delete("/v1/devices/nobody")).status_code == 404


async def test_a_device_that_was_only_registered_is_deleted_and_may_return(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    http, other = processes
    await http.post("/v1/devices", json={"device_id": "a"})
    assert (
        await post_event(other, "e1", soc_percent=101)
    ).status_code == 422  # It knows its number.
    assert (await http.delete("/v1/devices/a")).status_code == 204
    assert (await http.get("/v1/devices/a")).status_code == 404
    assert (await post_event(other, "e2")).json() == {"status": "ok"}
    assert len((await http.get("/v1/devices/a/events")).json()) == 1
    assert (await http.get("/v1/devices/a")).json()["state"] == "online"


async def test_an_invalid_registration_is_422_and_changes_nothing(
    http: httpx.AsyncClient, db: Connection
) -> None:
    before = await db.fetchval("select registry_version from config")
    for change in BAD_REGISTRATIONS:
        response = await http.post("/v1/devices", json={"device_id": "a"} | change)
        assert response.status_code == 422, change
        assert next(iter(change)) in response.json()["detail"]
    assert await db.fetchval("select count(*) from device") == 0
    assert await db.fetchval("select registry_version from config") == before


async def test_an_invalid_json_document_is_refused(http: httpx.AsyncClient) -> None:
    json = {"Content-Type": "application/json"}
    long = b'{"name":"' + b"x" * 70_000 + b'"}'
    for method in ("POST /v1/devices", "PUT /v1/devices/a", "PUT /v1/profiles/a"):
        verb, path = method.split()
        assert (await http.request(verb, path, content=b"{}")).status_code == 415
        for body, status in ((b"{", 422), (b"[]", 422), (long, 413)):
            response = await http.request(verb, path, content=body, headers=json)
            assert response.status_code == status


async def test_profiles_are_listed_written_and_replaced(http: httpx.AsyncClient) -> None:
    assert [row["name"] for row in (await http.get("/v1/profiles")).json()] == ["battery", "open"]
    battery = (await http.get("/v1/profiles/battery")).json()
    assert battery["metrics"]["soc_percent"] == {"unit": "%", "min": 0, "max": 100}
    body = {
        "metrics": {"x": {"unit": "V", "min": -1.0, "max": 2.5}, "y": {"max": None}},
        "interval_s": 60,
        "receipts": True,
    }
    response = await http.put("/v1/profiles/mine", json=body)
    assert response.status_code == 201
    mine = {"name": "mine"} | body | {"metrics": {"x": body["metrics"]["x"], "y": {}}}  # type: ignore[index]
    assert response.json() == (await http.get("/v1/profiles/mine")).json() == mine
    assert '"min": -1,' in response.text or '"min":-1,' in response.text
    response = await http.put("/v1/profiles/mine", json=mine)
    assert (response.status_code, response.json()) == (200, mine)
    response = await http.put("/v1/profiles/mine", json={})
    assert response.json() == {"name": "mine", "metrics": {}, "interval_s": None, "receipts": False}
    assert (await http.get("/v1/profiles/nowhere")).status_code == 404
    names = [row["name"] for row in await all_pages(http, "/v1/profiles?limit=1")]
    assert names == ["battery", "mine", "open"]


async def test_an_invalid_profile_is_422(http: httpx.AsyncClient) -> None:
    for body in BAD_PROFILES:
        response = await http.put("/v1/profiles/mine", json=body)
        assert response.status_code == 422, body
        assert next(iter(body)) in response.json()["detail"]
    assert (await http.get("/v1/profiles/mine")).status_code == 404
    assert (await http.put("/v1/profiles/a%20b", json={})).status_code == 422


async def test_a_changed_range_holds_for_the_next_event_in_every_process(
    processes: list[httpx.AsyncClient],
) -> None:
    http, other = processes
    for n, process in enumerate(processes):
        assert (await post_event(process, f"warm {n}", soc_percent=90)).status_code == 200
    for n in range(5):
        narrow = {"metrics": {"soc_percent": {"min": 0, "max": 50}}}
        await http.put("/v1/profiles/battery", json=narrow)
        assert (await post_event(other, f"a{n}", soc_percent=90)).status_code == 422
        assert (await post_event(http, f"b{n}", soc_percent=90)).status_code == 422
        await other.put("/v1/profiles/battery", json={"metrics": {}})
        assert (await post_event(other, f"c{n}", soc_percent=900)).status_code == 200
        assert (await post_event(http, f"d{n}", soc_percent=900)).status_code == 200


async def test_another_profile_holds_for_the_next_event_in_every_process(
    processes: list[httpx.AsyncClient],
) -> None:
    http, other = processes
    for n in range(3):
        assert (await post_event(other, f"a{n}", soc_percent=900)).status_code == 422
        await http.put("/v1/devices/a", json={"profile": "open"})
        assert (await post_event(other, f"b{n}", soc_percent=900)).status_code == 200
        await http.delete("/v1/devices/a")


async def expected(db: Connection) -> dict[str, float | None]:
    rows = await db.fetch(
        "select device_id, p.interval_s from device join presence p using (device_no)"
    )
    return {row["device_id"]: row["interval_s"] for row in rows}


async def test_the_expected_interval_is_the_devices_own_then_its_profiles(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await http.put("/v1/profiles/slow", json={"interval_s": 600})
    await http.put("/v1/devices/own", json={"profile": "slow", "interval_s": 10})
    await http.put("/v1/devices/slow", json={"profile": "slow"})
    await post_event(http, "e1", "unregistered")
    assert await expected(db) == {"own": 10, "slow": 600, "unregistered": None}
    await http.put("/v1/profiles/slow", json={"interval_s": 700})
    await http.put("/v1/profiles/battery", json={"interval_s": 30})
    await post_event(http, "e1", "new_device")
    assert await expected(db) == {"own": 10, "slow": 700, "unregistered": 30, "new_device": 30}
    await http.put("/v1/devices/own", json={"profile": "slow"})
    await http.put("/v1/devices/slow", json={})
    assert await expected(db) == {"own": 700, "slow": 30, "unregistered": 30, "new_device": 30}
    await http.put("/v1/profiles/battery", json={})
    assert await expected(db) == {
        "own": 700,
        "slow": None,
        "unregistered": None,
        "new_device": None,
    }


@pytest.mark.parametrize("path", ["/v1/profiles/battery", "/v1/devices/a"])
async def test_a_shorter_limit_counts_from_the_last_sign_of_life(
    http: httpx.AsyncClient, db: Connection, path: str
) -> None:
    await db.execute(CANARY_RETURNED)
    await post_event(http, "e1")
    await http.put("/v1/devices/never", json={})
    await db.execute(
        "update presence set last_seen = last_seen - interval '100 s' where state = 'online'"
    )
    assert await sweep(db, OFFLINE_AFTER_S) == 0
    await http.put(path, json={"interval_s": 60})
    assert await sweep(db, OFFLINE_AFTER_S) == 1
    assert (await http.get("/v1/devices/a")).json()["state"] == "late"
    await http.put(path, json={"interval_s": 20})
    assert await sweep(db, OFFLINE_AFTER_S) == 1
    assert (await http.get("/v1/devices/a")).json()["state"] == "offline"
    assert (await http.get("/v1/devices/never")).json()["state"] == "never_seen"


async def test_concurrent_changes_and_posts_never_deadlock(
    processes: list[httpx.AsyncClient], db: Connection
) -> None:
    async def work(worker: int) -> None:
        http = processes[worker % 2]
        for n in range(12):
            device_id = f"d{(worker + n) % 5}"
            responses = [
                await post_event(http, f"{worker}-{n}", device_id),
                await http.put(f"/v1/devices/{device_id}", json={"interval_s": n + 1}),
                await http.put("/v1/profiles/battery", json={"interval_s": worker * 100 + n + 1}),
                await http.delete(f"/v1/devices/{device_id}"),
            ]
            assert all(response.status_code < 300 for response in responses), [
                a.text for a in responses
            ]

    await asyncio.gather(*map(work, range(6)))
    profile = await db.fetchval("select interval_s from profile where name = 'battery'")
    assert set((await expected(db)).values()) == {profile}


async def test_a_registration_during_deletions_answers_with_the_device_or_a_conflict(
    processes: list[httpx.AsyncClient],
) -> None:
    async def put(http: httpx.AsyncClient) -> None:
        response = await http.put("/v1/devices/a", json={"name": "A"})
        if response.status_code != httpx.codes.CONFLICT:
            assert response.status_code in {httpx.codes.OK, httpx.codes.CREATED}, response.text
            assert response.json()["name"] == "A"

    for _ in range(20):
        forgetting = [http.delete("/v1/devices/a") for http in processes * 2]
        await asyncio.gather(*map(put, processes * 2), *forgetting)


async def test_devices_are_listed_by_id_in_pages_of_what_fits_every_filter(
    http: httpx.AsyncClient,
) -> None:
    for n in range(7):
        body = {"name": f"Shed {n % 2}", "tags": ["roof"] if n < 5 else []}
        await http.put(f"/v1/devices/d{n}", json=body)
    await post_event(http, "e1", "d0")
    await post_event(http, "e2", "D9")

    async def listed(query: str) -> list[str]:
        return [row["device_id"] for row in await all_pages(http, f"/v1/devices?limit=2&{query}")]

    assert await listed("") == ["D9", "d0", "d1", "d2", "d3", "d4", "d5", "d6"]
    assert await listed("tag=roof") == ["d0", "d1", "d2", "d3", "d4"]
    assert await listed("q=SHED%201") == ["d1", "d3", "d5"]
    assert await listed("q=d9") == ["D9"]
    assert await listed("state=online") == ["D9", "d0"]
    assert await listed("tag=roof&q=shed%200&state=never_seen") == ["d2", "d4"]
    following = (await http.get("/v1/devices?limit=2&tag=roof")).links["next"]["url"]
    assert (await http.get(following.replace("tag=roof", "tag=other"))).status_code == 422


async def test_a_change_on_a_read_only_database_is_503_while_queries_are_answered(
    http: httpx.AsyncClient, db: Connection
) -> None:
    name = await db.fetchval("select current_database()")
    await db.execute(f'alter database "{name}" set default_transaction_read_only = on')
    assert (await http.put("/v1/devices/a", json={})).status_code == 503
    assert (await http.get("/v1/devices")).json() == []


@pytest.mark.parametrize("device_id", ["import", "summary"])
async def test_a_device_whose_id_is_the_path_of_a_route_is_replaced_and_forgotten(
    http: httpx.AsyncClient, device_id: str
) -> None:
    path = f"/v1/devices/{device_id}"
    assert (await http.put(path, json={"name": "one"})).status_code == 201
    assert (await http.put(path, json={"name": "two"})).json()["name"] == "two"
    (listed,) = (await http.get(f"/v1/devices?q={device_id}")).json()
    assert listed["name"] == "two"
    if device_id == "import":
        assert (await http.get(path)).json()["name"] == "two"
    assert (await http.delete(path)).status_code == 204
    assert (await http.get(f"/v1/devices?q={device_id}")).json() == []
