"""Dead letters from outside: listed, read byte by byte, replayed over HTTP and by `voltwire replay`."""

import asyncio
import re
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import paho.mqtt.publish
import pytest

from tests.acceptance.conftest import base_url
from tests.conftest import with_database
from tests.support.http import plain_http
from tests.support.processes.services import Process, voltwire

ROW = re.compile(r"^ (\w+) +(\d+)", re.MULTILINE)
JSON = {"Content-Type": "application/json"}
UNTIL_S_MAX = 60
ANSWER_S_MAX = 8  # The product answers within 5 s; a busy machine delays both sides.


def run_sql(dsn: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture
def http(up: Process) -> Iterator[httpx.Client]:
    with plain_http.Client(base_url=base_url(up), timeout=30) as client:
        yield client


@pytest.fixture
def device() -> str:
    """A device that no other test uses: it identifies the dead letters of the test."""
    return f"d-{uuid4().hex}"


def body(device_id: str, value: float = 120, **more: Any) -> dict[str, Any]:
    return {
        "event_id": uuid4().hex,
        "device_id": device_id,
        "metrics": {"soc_percent": value},
    } | more


def refuse(http: httpx.Client, device_id: str, count: int) -> list[dict[str, Any]]:
    """That many dead letters of a device, all from one batch, in its order."""
    bodies = [body(device_id) for _ in range(count)]
    response = http.post("/v1/events/batch", json=bodies)
    assert {item["status"] for item in response.json()} == {"rejected"}
    return bodies


def dead_letters(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/v1/rejected", params=query).raise_for_status().json()
    return found


def replay(http: httpx.Client, **selection: Any) -> dict[str, Any]:
    response = http.post("/v1/rejected/replay", json=selection)
    assert response.status_code == 200, response.text
    outcome: dict[str, Any] = response.json()
    return outcome


def allow(database: str, highest: int) -> None:
    run_sql(
        database,
        f"""begin;
        update profile set metrics = jsonb_set(metrics, '{{soc_percent,max}}', '{highest}')
        where name = 'battery';
        update config set registry_version = registry_version + 1; commit""",
    )


@pytest.fixture
def narrow(database: str) -> Iterator[None]:
    """Every test begins with the original range."""
    yield
    allow(database, 100)


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = response.json()
    return problem


def test_a_dead_letter_shows_its_members(http: httpx.Client, up: Process, device: str) -> None:
    http.post("/v1/events", json=body(device))
    http.post("/v1/events/batch", json=[body(device, 50), {"device_id": device}])
    paho.mqtt.publish.single(
        f"devices/{device}/telemetry", b"{", qos=1, port=int(up.settings["MQTT_PORT"])
    )
    deadline = time.monotonic() + UNTIL_S_MAX
    while len(found := dead_letters(http, device_id=device)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [(row["door"], row["reason"], row["item"]) for row in found] == [
        ("mqtt", "malformed_json", None),
        ("http", "bad_metrics", 1),
        ("http", "out_of_range", None),
    ]
    assert list(found[0]) == [
        "id", "received_at", "door", "device_id", "reason", "detail", "item", "size_bytes", "replayed_at",
    ]  # fmt: skip
    assert found[0]["size_bytes"] == 1
    assert "profile battery" in found[2]["detail"]
    assert {row["replayed_at"] for row in found} == {None}
    assert found[0]["id"] > found[1]["id"] > found[2]["id"]


def test_the_list_holds_only_what_matches_every_filter(http: httpx.Client, device: str) -> None:
    http.post("/v1/events", json=body(device))
    http.post("/v1/events", json=body(device, metrics={}))
    (bad, out) = dead_letters(http, device_id=device)
    assert dead_letters(http, device_id=device, reason="bad_metrics") == [bad]
    assert dead_letters(http, device_id=device, door="http") == [bad, out]
    assert dead_letters(http, device_id=device, door="mqtt") == []
    assert dead_letters(http, device_id=device, from_time=bad["received_at"]) == [bad]
    assert dead_letters(http, device_id=device, to_time=bad["received_at"]) == [out]
    assert dead_letters(http, device_id=device, replayed="false") == [bad, out]
    assert dead_letters(http, device_id=device, replayed="true") == []
    assert dead_letters(http, device_id="nobody") == []


def test_pages_show_every_dead_letter_once_while_new_ones_arrive(
    http: httpx.Client, device: str
) -> None:
    refuse(http, device, 25)
    expected = [row["id"] for row in dead_letters(http, device_id=device)]
    seen: list[int] = []
    page: str | None = f"/v1/rejected?device_id={device}&limit=7"
    while page:
        response = http.get(page)
        seen += [row["id"] for row in response.json()]
        page = response.links.get("next", {}).get("url")
        http.post("/v1/events", json=body(device))
    assert seen == expected
    link = http.get(f"/v1/rejected?device_id={device}&limit=7").links["next"]["url"]
    assert_problem(http.get(f"{link}&reason=bad_tags"), 422)


@pytest.mark.parametrize(
    "payload", [b'{"a": "\xff\xfe"}', b"\xef\xbb\xbf{}", b"\x00\x01", b"<script>alert(1)</script>"]
)
def test_the_payload_is_what_was_sent_byte_for_byte(http: httpx.Client, payload: bytes) -> None:
    assert_problem(http.post("/v1/events", content=payload, headers=JSON), 422)
    newest = dead_letters(http, limit=1)[0]
    shown = http.get(f"/v1/rejected/{newest['id']}")
    assert shown.headers["content-type"] == "application/json"
    assert {name: shown.json()[name] for name in newest} == newest
    assert b64decode(shown.json()["payload_base64"], validate=True) == payload
    try:
        text = None if b"\0" in payload else payload.decode()
    except UnicodeDecodeError:
        text = None
    assert shown.json()["payload"] == text
    raw = http.get(f"/v1/rejected/{newest['id']}", headers={"Accept": "application/octet-stream"})
    assert raw.content == payload
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.headers["x-content-type-options"] == "nosniff"
    assert raw.headers["content-disposition"] == f'attachment; filename="rejected-{newest["id"]}"'
    browser = http.get(f"/v1/rejected/{newest['id']}", headers={"Accept": "text/html,*/*;q=0.8"})
    assert browser.headers["content-type"] == "application/json"


@pytest.mark.parametrize("number", ["0", "-1", "999999999", str(2**63), "x", "1.5", "%00"])
def test_an_unknown_dead_letter_is_404(http: httpx.Client, number: str) -> None:
    assert_problem(http.get(f"/v1/rejected/{number}"), 404)


@pytest.mark.parametrize(
    "query",
    [
        "reason=none",
        "door=window",
        "replayed=perhaps",
        "limit=0",
        "limit=1001",
        "cursor=abc",
        "from_time=yesterday",
        "from_time=2026-01-02T00:00:00Z&to_time=2026-01-01T00:00:00Z",
        "device_id=%00",
        "device=a",
    ],
)
def test_an_invalid_query_is_422(http: httpx.Client, query: str) -> None:
    assert_problem(http.get(f"/v1/rejected?{query}"), 422)


@pytest.mark.parametrize(
    "selection",
    [
        [],
        {"device": "a"},
        {"device_id": None},
        {"device_id": "\0"},
        {"reason": "none"},
        {"door": "window"},
        {"ids": []},
        {"ids": [0]},
        {"ids": ["1"]},
        {"ids": [2**63]},
        {"ids": list(range(1, 1002))},
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"after": -1},
        {"from_time": "yesterday"},
        {"from_time": "2026-01-02T00:00:00Z", "to_time": "2026-01-01T00:00:00Z"},
    ],
)
def test_an_invalid_selection_is_422(http: httpx.Client, selection: Any) -> None:
    assert_problem(http.post("/v1/rejected/replay", json=selection), 422)


def test_a_replay_must_be_requested_in_json(http: httpx.Client) -> None:
    assert_problem(http.post("/v1/rejected/replay", content=b"{}"), 415)
    assert_problem(http.post("/v1/rejected/replay", content=b"{", headers=JSON), 422)
    assert_problem(http.post("/v1/rejected/replay", content=b"", headers=JSON), 422)


def test_after_a_range_was_raised_a_replay_stores_each_event_once(
    http: httpx.Client, database: str, narrow: None, device: str
) -> None:
    bodies = refuse(http, device, 5)
    arrived = {row["received_at"] for row in dead_letters(http, device_id=device)}
    assert replay(http, device_id=device) == {
        "letters": 5, "stored": 0, "duplicate": 0, "rejected": 5, "next": None,
    }  # fmt: skip
    assert len(dead_letters(http, device_id=device, replayed="false")) == 5
    allow(database, 130)
    assert http.post("/v1/events", json=bodies[0]).json() == {"status": "ok"}
    assert replay(http, device_id=device) == {
        "letters": 5, "stored": 4, "duplicate": 1, "rejected": 0, "next": None,
    }  # fmt: skip
    events = http.get(f"/v1/devices/{device}/events").json()
    assert {event["event_id"] for event in events} == {event["event_id"] for event in bodies}
    assert len(events) == 5
    assert {event["received_at"] for event in events[1:]} == arrived
    done = dead_letters(http, device_id=device, replayed="true")
    assert len(done) == 5
    assert None not in {row["replayed_at"] for row in done}
    assert replay(http, device_id=device)["letters"] == 0
    again = replay(http, ids=[row["id"] for row in done])
    assert (again["letters"], again["duplicate"]) == (5, 5)


def test_next_leads_through_the_dead_letters(http: httpx.Client, device: str) -> None:
    refuse(http, device, 5)
    numbers = sorted(row["id"] for row in dead_letters(http, device_id=device))
    first = replay(http, device_id=device, limit=3)
    assert (first["letters"], first["next"]) == (3, numbers[2])
    rest = replay(http, device_id=device, limit=3, after=first["next"])
    assert (rest["letters"], rest["next"]) == (2, None)


def test_a_thousand_dead_letters_fit_into_one_request(
    http: httpx.Client, database: str, narrow: None, device: str
) -> None:
    refuse(http, device, 1000)
    allow(database, 130)
    stored, after = 0, 0
    while True:
        outcome = replay(http, device_id=device, after=after)
        stored, after = stored + outcome["stored"], outcome["next"]
        if after is None:
            break
    assert stored == 1000


def test_concurrent_replays_store_each_event_once(
    http: httpx.Client, database: str, narrow: None, device: str
) -> None:
    refuse(http, device, 400)
    allow(database, 130)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: replay(http, device_id=device), range(4)))
    assert sum(outcome["stored"] for outcome in outcomes) == 400
    assert {outcome["rejected"] for outcome in outcomes} == {0}
    assert len(http.get(f"/v1/devices/{device}/events?limit=1000").json()) == 400


def test_a_database_that_does_not_confirm_is_503_in_time_and_the_next_replay_completes_it(
    http: httpx.Client, database: str, narrow: None, device: str
) -> None:
    refuse(http, device, 1)
    allow(database, 130)
    run_sql(database, "alter table event rename to hidden")
    began = time.monotonic()
    response = http.post("/v1/rejected/replay", json={"device_id": device})
    spent = time.monotonic() - began
    run_sql(database, "alter table hidden rename to event")
    assert_problem(response, 503)
    assert int(response.headers["Retry-After"]) >= 1
    assert spent < ANSWER_S_MAX
    again = replay(http, device_id=device)
    assert again["stored"] + again["duplicate"] == 1
    assert len(http.get(f"/v1/devices/{device}/events").json()) == 1


def voltwire_replay(
    *arguments: str, **settings: str
) -> tuple[int, dict[str, int], subprocess.CompletedProcess[str]]:
    """The exit code, the table, and the whole output."""
    process = voltwire("replay", *arguments, **settings)
    counts = {name: int(count) for name, count in ROW.findall(process.stdout)}
    return process.returncode, counts, process


def test_the_command_counts_then_replays_and_is_harmless_when_repeated(
    http: httpx.Client, database: str, narrow: None, device: str
) -> None:
    refuse(http, device, 450)
    http.post("/v1/events", json={"device_id": device, "metrics": {}})
    allow(database, 130)
    selected = ("--device", device)
    code, counted, _ = voltwire_replay(*selected, "--dry-run", DATABASE_URL=database)
    assert (code, counted) == (0, {"out_of_range": 450, "bad_metrics": 1, "letters": 451})
    assert len(dead_letters(http, device_id=device, replayed="true")) == 0
    code, counted, said = voltwire_replay(*selected, DATABASE_URL=database)
    assert code == 0, said
    assert counted == {"letters": 451, "stored": 450, "duplicate": 0, "rejected": 1}
    assert "bad_metrics 1" in said.stdout
    code, counted, _ = voltwire_replay(*selected, DATABASE_URL=database)
    assert (code, counted["letters"], counted["rejected"]) == (0, 1, 1)
    (number,) = [
        row["id"] for row in dead_letters(http, device_id=device, replayed="true", limit=1)
    ]
    code, counted, _ = voltwire_replay("--id", str(number), DATABASE_URL=database)
    assert (code, counted["letters"], counted["duplicate"]) == (0, 1, 1)
    code, counted, _ = voltwire_replay(
        *selected, "--reason", "bad_metrics", "--door", "http", "--since", "2026-01-01T00:00:00Z",
        "--until", "2100-01-01T00:00:00Z", "--dry-run", DATABASE_URL=database,
    )  # fmt: skip
    assert (code, counted) == (0, {"bad_metrics": 1, "letters": 1})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--reason", "none"),
        ("--door", "window"),
        ("--id", "x"),
        ("--id", "0"),
        ("--since", "yesterday"),
        ("--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"),
        ("--nonsense",),
        ("argument",),
    ],
)
def test_bad_options_are_misuse(database: str, arguments: tuple[str, ...]) -> None:
    code, _, said = voltwire_replay(*arguments, DATABASE_URL=database)
    assert code == 2, said
    assert said.stdout == ""


def test_without_a_database_the_command_says_so_in_one_sentence(
    postgres: str, tmp_path: Path
) -> None:
    nowhere = "postgresql://voltwire@127.0.0.1:1/voltwire"
    code, _, said = voltwire_replay(DATABASE_URL=nowhere)
    assert code == 1, said
    assert said.stderr.count("\n") == 1
    assert "DATABASE_URL" in said.stderr
    code, _, said = voltwire_replay(DATA_DIR=str(tmp_path))
    assert code == 1, said
    assert "voltwire up" in said.stderr
    unmigrated = with_database(postgres, "postgres")
    code, _, said = voltwire_replay(DATABASE_URL=unmigrated)
    assert code == 1, said
    assert "voltwire migrate" in said.stderr
