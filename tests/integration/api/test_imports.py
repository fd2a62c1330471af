"""Devices from a file: each row as a PUT, all of them or none."""

import asyncio
import gc
from collections.abc import AsyncIterator
from time import thread_time
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.http.http_api import api_on

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PATH = "/v1/devices/import"
LOOP_HELD_S_MAX = 0.1  # Of CPU; 20 ms where nothing else runs, more where others use its caches.
PUT_FIELDS = ("name", "profile", "tags", "attributes", "interval_s", "tz")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(database) as client:
        yield client


async def send_csv(http: httpx.AsyncClient, text: str | bytes) -> httpx.Response:
    content = text if isinstance(text, bytes) else text.encode()
    return await http.post(PATH, content=content, headers={"Content-Type": "text/csv"})


async def registered(http: httpx.AsyncClient, device_id: str) -> dict[str, Any]:
    shown = (await http.get(f"/v1/devices/{device_id}")).json()
    return {name: shown[name] for name in PUT_FIELDS}


async def faults(http: httpx.AsyncClient, body: Any) -> list[tuple[Any, str]]:
    """Place and field of each fault, and nothing is imported."""
    before = await http.get("/v1/devices/summary")
    response = await (
        http.post(PATH, json=body) if isinstance(body, list) else send_csv(http, body)
    )
    assert response.status_code == 422, response.text
    assert response.json()["detail"].endswith("is imported."), response.text
    assert (await http.get("/v1/devices/summary")).json() == before.json()
    errors = response.json().get("errors", [])
    return [(fault.get("line", fault.get("item")), fault["field"]) for fault in errors]


async def test_a_csv_file_and_an_array_say_the_same(http: httpx.AsyncClient) -> None:
    text = (
        "\ufeffdevice_id,name,profile,tags,interval_s,tz,attributes.model,attributes.rated_kwh,attributes.serial\r\n"
        'csv1,"Shed, ""north""",open,roof; south;,60,Europe/Berlin,X-2,5.2,007\r\n'
        "csv2,,,,,,,60,1.10\r\n"
        "\r\n"
        '"csv3","two\nlines","","","","","356938035643809","-1e-07","89490200001234567890"\r\n'
        ",,,,,,,,\r\n"
    )
    rejected = await send_csv(http, text)
    assert rejected.json()["errors"] == [
        {"line": 5, "field": "name", "message": rejected.json()["errors"][0]["message"]}
    ], "a line break is no part of a name"
    response = await send_csv(http, text.replace("two\nlines", "two lines"))
    assert (response.status_code, response.json()) == (
        201,
        {"devices": 3, "created": 3, "changed": 0},
    )
    rows: list[dict[str, Any]] = [
        {
            "name": 'Shed, "north"', "profile": "open", "tags": ["roof", "south"], "interval_s": 60,
            "tz": "Europe/Berlin", "attributes": {"model": "X-2", "rated_kwh": 5.2, "serial": "007"},
        },
        {"attributes": {"rated_kwh": 60, "serial": "1.10"}},
        {
            "name": "two lines",
            "attributes": {
                "model": 356938035643809, "rated_kwh": -1e-07, "serial": "89490200001234567890",
            },
        },
    ]  # fmt: skip
    same = [{"device_id": f"json{n}"} | row for n, row in enumerate(rows, 1)]
    assert (await http.post(PATH, json=same)).status_code == 201
    for n, row in enumerate(rows, 1):
        defaults: dict[str, Any] = {
            "name": None,
            "profile": "battery",
            "tags": [],
            "interval_s": None,
            "tz": None,
        }
        assert await registered(http, f"csv{n}") == defaults | row
        assert await registered(http, f"json{n}") == defaults | row
    again = await http.post(PATH, json=[*same[:2], {"device_id": "json3"}, {"device_id": "json4"}])
    assert again.json() == {"devices": 4, "created": 1, "changed": 1}
    assert (await registered(http, "json3"))["name"] is None, "a row replaces a whole registration"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", []),
        ("\n\n", []),
        ("name\nx\n", []),
        ("device_id;name\nf1;x\n", []),
        ("device_id,name\n", []),
        ([], []),
        (b"device_id\nf\xfc1\n", []),
        ('device_id,name\nf1,"x\n', []),
        ('device_id,name\nf1,"x"y\n', []),
        ("device_id,name\nf1," + "x" * 200_000 + "\n", []),
        ("device_id\n" + "".join(f"f{n}\n" for n in range(10_001)), []),
        ([{"device_id": f"f{n}"} for n in range(10_001)], []),
        ("device_id,Name\nf1,x\n", [(1, "Name")]),
        ("device_id,name,name,\nf1,x,y,z\n", [(1, "name"), (1, "column 4")]),
        ("device_id,attributes\nf1,x\n", [(1, "attributes")]),
        ("device_id,attributes.\nf1,x\n", [(1, "attributes.")]),
        ("device_id,Name\nf 1,x\nf1,x\nf1,x\n", [(1, "Name")]),
        ("device_id," + "x" * 70_000, []),
        ('device_id,name\nf1,"' + ("x" * 50_000 + "\n") * 3 + '"\n', []),
        ("device_id" + "," * 2_000_000, []),
        ("device_id" + ",name" * 1_000, [(1, "name")] * 100),
        ([{"device_id": "f1", "x" * 60_000: 1}], [(0, "x" * 200)]),
        ([{"device_id": "f1", "name": "x" * 70_000}, {"device_id": "f 2"}], [(0, ""), (1, "device_id")]),
        ("device_id,name\nf1\nf2,x,y\nf3,x\n", [(2, ""), (3, "")]),
        ("device_id,interval_s\nf1,abc\n\nf2,-1\nf 3,1\n",
         [(2, "interval_s"), (4, "interval_s"), (5, "device_id")]),
        ("device_id,name\nf1,x\nf2,x\nf1,y\nf1,z\n", [(4, "device_id"), (5, "device_id")]),
        ("device_id,profile\nf1,nowhere\nf2,battery\n,open\n", [(4, "device_id")]),
        ("device_id,profile\nf1,nowhere\nf2,battery\nf3,elsewhere\n", [(2, "profile"), (4, "profile")]),
        ("device_id,tz,tags\nf1,Mars,x\nf2,UTC," + "a;" * 33 + "\n", [(2, "tz"), (3, "tags")]),
        ([{"device_id": "f1"}, 5, {"name": "x"}, {"device_id": "f1"}, {"device_id": "f2", "x": 1}],
         [(1, ""), (2, "device_id"), (3, "device_id"), (4, "x")]),
        ([{"device_id": "f1", "attributes": {"a": None}}], [(0, "attributes.a")]),
        ("device_id,interval_s\n" + "".join(f"f{n},x\n" for n in range(150)),
         [(n, "interval_s") for n in range(2, 102)]),
    ],
)  # fmt: skip
async def test_every_fault_is_named_with_its_place_and_nothing_is_imported(
    http: httpx.AsyncClient, body: Any, expected: list[tuple[Any, str]]
) -> None:
    assert await faults(http, body) == expected


async def test_bodies_of_another_kind_or_size_are_refused(http: httpx.AsyncClient) -> None:
    for content, media_type, status in (
        (b"device_id\nf1\n", "text/plain", 415),
        (b"device_id\nf1\n", "text/csv; charset=iso-8859-1", 415),
        (b'{"device_id":"f1"}', "application/json", 422),
        (b"[{]", "application/json", 422),
        (b"\xef\xbb\xbf[]", "application/json", 422),
        (b"device_id\n" + b"x" * (8 * 1024 * 1024), "text/csv", 413),
    ):
        response = await http.post(PATH, content=content, headers={"Content-Type": media_type})
        assert response.status_code == status, (content[:20], response.text)
    accepted = await http.post(
        PATH, content=b"device_id\nutf8\n", headers={"Content-Type": "Text/CSV; charset=UTF-8"}
    )
    assert accepted.is_success


async def test_ten_thousand_devices_are_in_force_together_while_others_are_served(
    http: httpx.AsyncClient, database: str
) -> None:
    rows = "".join(
        f"many{n:05},Device {n},open,fleet:{n % 7};x,60,Europe/Berlin,X-{n % 5},{n}\n"
        for n in range(10_000)
    )
    header = "device_id,name,profile,tags,interval_s,tz,attributes.model,attributes.number\n"
    event = {"device_id": "many00001", "metrics": {"soc_percent": 120}}
    assert (await http.post("/v1/events", json=event)).status_code == 422
    gc.freeze()  # As a role does when it starts; here the objects of all earlier tests would be searched.
    importing = asyncio.create_task(send_csv(http, header + rows))
    longest_s, before = 0.0, thread_time()
    while not importing.done():
        await asyncio.sleep(0)
        longest_s, before = max(longest_s, thread_time() - before), thread_time()
    gc.unfreeze()
    response = await importing
    assert response.json() == {"devices": 10_000, "created": 10_000, "changed": 0}
    assert longest_s < LOOP_HELD_S_MAX
    assert (await http.post("/v1/events", json=event)).json()["status"] == "ok"
    (shown,) = (await http.get("/v1/devices?tag=fleet:3&q=many00003")).json()
    assert (shown["expected_interval_s"], shown["source"]) == (60, "device")
    async with api_on(database, "other") as other:
        assert (await other.get("/v1/devices/many09999")).json()["attributes"] == {
            "model": "X-4", "number": 9999,
        }  # fmt: skip


async def test_two_imports_and_puts_of_the_same_devices_end_as_one_after_the_other(
    http: httpx.AsyncClient,
) -> None:
    ids = [f"same{n}" for n in range(50)]

    async def load(name: str, order: int) -> None:
        rows = [{"device_id": each, "name": name} for each in ids[::order]]
        assert (await http.post(PATH, json=rows)).is_success

    async def put() -> None:
        for each in ids[:10]:
            assert (await http.put(f"/v1/devices/{each}", json={"name": "put"})).is_success

    await asyncio.gather(load("a", 1), load("b", -1), put())
    names = {(await registered(http, each))["name"] for each in ids[10:]}
    assert len(names) == 1


async def test_an_import_is_a_row_of_the_audit(http: httpx.AsyncClient) -> None:
    await http.post(PATH, json=[{"device_id": "audited"}])
    newest = (await http.get("/v1/audit?limit=1")).json()[0]
    assert newest["action"] == "device.import"
    assert newest["details"] == {
        "devices": 1, "created": 1, "changed": 0, "first_ids": ["audited"],
    }  # fmt: skip
