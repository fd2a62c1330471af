"""Back-tests over HTTP: the incidents of live evaluation, from stored events alone."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from schema.database import Connection
from schema.instants import rfc3339
from tests.acceptance.chaos.seeds import rounds
from tests.support.http.http_api import api_on

START = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = {"from_time": "2026-03-01T00:00:00Z", "to_time": "2026-03-02T00:00:00Z"}
RULE = {"metric": "temp", "op": ">", "threshold": 30}
SEEDS = rounds(short=2, long=60)
# 2 s on an idle machine, with room for a busy one; the loop is held for 5 ms at most, in CPU time.
YEAR_S_MAX, HELD_S_MAX = 6.0, 0.02


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(dsn) as client:
        yield client


def event(second: float, temp: float, event_id: str, device_id: str = "a", **more: Any) -> Any:
    return {
        "event_id": event_id, "device_id": device_id, "metrics": {"temp": temp},
        "timestamp": rfc3339(START + timedelta(seconds=second)),
    } | more  # fmt: skip


async def send(http: httpx.AsyncClient, events: Sequence[Any]) -> None:
    response = await http.post("/v1/events/batch", json=events)
    assert {item["status"] for item in response.json()} == {"stored"}


async def backtest(http: httpx.AsyncClient, **body: Any) -> Any:
    response = await http.post("/v1/alerts/backtest", json=SPAN | body)
    assert response.status_code == 200, response.text
    return response.json()


def random_rule(dice: random.Random) -> dict[str, Any]:
    op = dice.choice([">", ">=", "<", "<=", "==", "!="])
    threshold = dice.choice([20, 21.5, 22])
    clear = {">": -1, ">=": -0.5, "<": 1, "<=": 0.5}.get(op)
    rate = dice.random() < 0.4
    return {
        "metric": "temp", "op": op, "threshold": dice.choice([0, 2, -2]) if rate else threshold,
        "condition": "rate" if rate else "threshold",
        "clear_threshold": threshold + clear if clear and not rate and dice.random() < 0.5 else None,
        "for_s": dice.choice([0, 0, 60, 150]),
        "max_gap_s": dice.choice([None, None, 90, 200]),
        "cooldown_s": dice.choice([0, 300]), "notify": dice.choice(["every", "change"]),
        "tag": dice.choice([None, None, "t"]), "device_id": dice.choice([None, None, "d1"]),
    }  # fmt: skip


def random_events(dice: random.Random, seed: int) -> list[Any]:
    second, events = 0.0, []
    for n in range(400):
        second += dice.choice([0, 0, 10, 30, 60, 60, 60, 120, 250])
        metrics = {"temp": dice.choice([19, 20, 21, 21.5, 22, 22.5, 23])}
        events.append(
            event(
                second, 0, f"{seed}-{n:04d}", f"d{dice.randrange(3)}",
                metrics=dice.choice([metrics, metrics, metrics, {"hum": 1}]),
                tags=dice.choice([["t"], []]),
            )
        )  # fmt: skip
    return events


@pytest.mark.slow
async def test_a_back_test_gives_the_incidents_of_live_evaluation(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await http.put("/v1/devices/d1", json={"interval_s": 30})
    for seed in range(SEEDS):
        dice = random.Random(seed)
        rules = [random_rule(dice) for _ in range(8)]
        rule_ids = [(await http.post("/v1/alerts", json=rule)).json()["id"] for rule in rules]
        events = random_events(dice, seed)
        while events:
            size = dice.randrange(1, 60)
            await send(http, events[:size])
            events = events[size:]
        for rule_id, rule in zip(rule_ids, rules, strict=True):
            found = await backtest(http, rule=rule)
            assert not found["truncated"]
            shown = ("opened_at", "opened_by", "opened_value", "resolved_at", "resolved_by")
            tested = [
                tuple(row[name] for name in ("device_id", *shown)) for row in found["incidents"]
            ]
            incidents = await db.fetch(
                "select device_id, rfc3339(opened_at), opened_by, opened_value, rfc3339(resolved_at),"
                " resolved_by from incident join device using (device_no) where rule_id = $1",
                rule_id,
            )
            assert sorted(tested) == sorted(tuple(row) for row in incidents), (seed, rule)
            assert found["incidents_total"] == len(tested)
            await http.delete(f"/v1/alerts/{rule_id}")
        assert await db.fetchval("select count(*) from incident") > 0
        await db.execute("truncate event, event_key, incident, alert_state")


async def test_incidents_are_counted_with_their_time_of_firing_inside_the_range(
    http: httpx.AsyncClient,
) -> None:
    await http.put("/v1/devices/b", json={})
    await send(http, [event(60 * n, 40 if n in {1, 2, 5} else 20, f"e{n}") for n in range(8)])
    await send(http, [event(60 * n, 40, f"e{n}", "b") for n in range(3)])
    found = await backtest(http, rule=RULE, to_time="2026-03-01T01:00:00Z")
    assert (found["events"], found["incidents_total"], found["time"]) == (11, 3, "timestamp")
    assert found["devices"] == [
        {"device_id": "b", "incidents": 1, "firing_s": 3600},
        {"device_id": "a", "incidents": 2, "firing_s": 180},
    ]
    later = await backtest(
        http,
        rule=RULE | {"for_s": 60, "max_gap_s": 60},
        from_time="2026-03-01T00:02:30Z",
        device_id="a",
    )
    assert [(row["opened_by"], row["resolved_by"]) for row in later["incidents"]] == [("e2", "e3")]
    assert later["devices"] == [{"device_id": "a", "incidents": 1, "firing_s": 30}]


async def test_a_back_test_notifies_nobody_and_stores_nothing(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await send(http, [event(0, 40, "e0")])
    before = await db.fetchval("select count(*) from outbox")
    assert (await backtest(http, rule=RULE | {"channels": ["ops"]}))["incidents_total"] == 1
    for table in ("rule", "incident", "alert_state"):
        assert await db.fetchval(f"select count(*) from {table}") == 0
    assert await db.fetchval("select count(*) from outbox") == before


async def test_a_back_test_of_no_data_goes_by_the_time_of_receipt(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await send(http, [event(60 * n, 20, f"e{n}") for n in range(30)])
    await db.execute(
        "update event set received_at = case when extract(minute from ts) between 10 and 19"
        " then '2026-03-01T00:20:30Z' else ts + interval '1 s' end"
    )
    found = await backtest(
        http, rule={"metric": "temp", "condition": "no_data", "for_s": 300},
        to_time="2026-03-01T01:00:00Z",
    )  # fmt: skip
    assert found["time"] == "received_at"
    assert [(row["opened_at"], row["resolved_at"]) for row in found["incidents"]] == [
        ("2026-03-01T00:14:01Z", "2026-03-01T00:20:01Z"),
        ("2026-03-01T00:34:01Z", None),
    ]
    assert found["firing_s"] == 360 + 1559


async def test_only_the_first_incidents_are_listed(http: httpx.AsyncClient) -> None:
    for part in range(3):
        await send(
            http,
            [event(n, 40 - 20 * (n % 2), f"e{n}") for n in range(part * 900, part * 900 + 900)],
        )
    found = await backtest(http, rule=RULE)
    assert (len(found["incidents"]), found["incidents_total"]) == (1000, 1350)
    assert found["truncated"] is True


async def test_the_lines_of_a_back_test_end_with_its_result_or_its_problem(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(http, [event(0, 40, "e0")])
    as_lines = {"Accept": "application/x-ndjson"}
    monkeypatch.setattr("api.routes.alerts.backtests.PROGRESS_S", 0.0)
    body = SPAN | {"rule": RULE}
    response = await http.post("/v1/alerts/backtest", json=body, headers=as_lines)
    assert response.headers["content-type"].startswith("application/x-ndjson")
    *before, last = [json.loads(line) for line in response.text.splitlines()]
    assert last == {"result": await backtest(http, rule=RULE)}
    assert before
    assert all(line["progress"].keys() == {"events", "expected"} for line in before)
    monkeypatch.setattr("api.alerts.backtest.READINGS_MAX", 0.5)
    response = await http.post("/v1/alerts/backtest", json=body, headers=as_lines)
    *_, last = response.text.splitlines()
    assert json.loads(last)["problem"]["status"] == 422


async def test_an_unknown_device_has_no_incidents(http: httpx.AsyncClient) -> None:
    await send(http, [event(0, 40, "e0")])
    for body in ({"device_id": "nobody"}, {"rule": RULE | {"device_id": "nobody"}}):
        found = await backtest(http, **({"rule": RULE} | body))
        assert (found["events"], found["incidents"], found["devices"]) == (0, [], [])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"from_time": "2026-03-02T00:00:00Z"}, "from_time must be before to_time"),
        ({"rule": RULE | {"op": "~"}}, "rule.op"),
        ({"rule": RULE | {"device_id": "a"}, "device_id": "b"}, "device_id differs"),
        ({"rule": "r1"}, "rule"),
        ({"from_time": None}, "from_time"),
        ({"until": 1}, "until"),
    ],
    ids=str,
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_wrong_back_test_is_refused(
    http_of_the_file: httpx.AsyncClient, body: dict[str, Any], message: str
) -> None:
    response = await http_of_the_file.post("/v1/alerts/backtest", json=SPAN | {"rule": RULE} | body)
    assert response.status_code == 422
    assert message in response.json()["detail"]


async def test_dropped_events_and_too_many_of_them_are_refused(
    http: httpx.AsyncClient, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.alerts.backtest.READINGS_MAX", 0.5)
    await send(http, [event(0, 40, "e0")])
    response = await http.post("/v1/alerts/backtest", json=SPAN | {"rule": RULE})
    assert response.status_code == 422
    assert "events; the limit is" in response.json()["detail"]
    await db.execute("update rollup_state set floor = '2026-04-01'")
    response = await http.post("/v1/alerts/backtest", json=SPAN | {"rule": RULE})
    assert response.status_code == 422
    assert response.json()["available_from"] == "2026-04-01T00:00:00Z"


@pytest.mark.chaos
async def test_a_year_of_minutes_takes_two_seconds_and_never_holds_the_loop(
    http: httpx.AsyncClient, db: Connection
) -> None:
    await db.execute(
        "insert into device (device_id) values ('a');"
        "insert into event (device_no, ts, event_id, metrics, tags, received_at)"
        " select device_no, ts, 'e' || row_number() over (order by ts),"
        " jsonb_build_object('temp', round((20 + 15 * random())::numeric, 2), 'soc_percent', 50), '{}', ts"
        " from device, generate_series('2025-03-01Z'::timestamptz, '2026-02-28T23:59Z', '1 min') ts;"
        "analyze event"
    )
    held: list[float] = []

    async def measure() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            held.append(time.thread_time() - before)
            await asyncio.sleep(0.001)

    times = []
    async with asyncio.TaskGroup() as group:
        measuring = group.create_task(measure())
        for rule in (RULE | {"for_s": 120}, RULE | {"condition": "rate", "threshold": 14}):
            for _ in range(2):
                before = time.perf_counter()
                found = await backtest(http, rule=rule, from_time="2025-03-01T00:00:00Z")
                times.append(time.perf_counter() - before)
                assert found["events"] == 525_600
                assert found["incidents_total"] > 1000
        measuring.cancel()
    assert min(times) < YEAR_S_MAX, times
    assert sorted(held)[-len(held) // 100] < HELD_S_MAX, sorted(held)[-5:]
