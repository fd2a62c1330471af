"""Batches above 256 KiB over HTTP: stored as small ones are, and never in the way of other requests."""

import asyncio
import json
from time import process_time
from typing import Any

import pytest

from tests.support.http.http_api import api_on

PADDING = "x" * 500
JSON = {"Content-Type": "application/json"}


def item(n: int, **more: Any) -> dict[str, Any]:
    return {
        "device_id": f"d{n % 7}",
        "event_id": f"e{n}",
        "metrics": {"temp": n},
        "x": PADDING,
    } | more


async def test_a_large_batch_is_stored_with_the_verdict_on_each_item(dsn: str, db: Any) -> None:
    items = [item(n) for n in range(1000)]
    items[3] = item(3, metrics={"soc_percent": 101})
    items[4] = item(4, metrics={"a": None})
    items[5] = item(5, x="x" * 300_000)
    async with api_on(dsn) as http:
        response = await http.post("/v1/events/batch", json=items)
        again = await http.post("/v1/events/batch", json=items)
        object_alone = await http.post("/v1/events/batch", json=items[5])
    assert response.status_code == 200, response.text
    verdicts = response.json()
    assert [verdict["status"] for verdict in verdicts[:3]] == ["stored"] * 3
    assert [verdict.get("reason") for verdict in verdicts[3:6]] == [
        "out_of_range", "bad_metric_value", "too_large",
    ]  # fmt: skip
    assert {verdict["status"] for verdict in verdicts[6:]} == {"stored"}
    assert {verdict["status"] for verdict in again.json()[6:]} == {"duplicate"}
    assert (object_alone.status_code, object_alone.json()["reason"]) == (422, "not_an_array")
    letters = await db.fetch(
        "select * from rejected where item is not null order by item, rejected_id"
    )
    first = {letter["item"]: letter["payload"] for letter in reversed(letters)}
    assert sorted(first) == [3, 4, 5]
    assert json.loads(first[3]) == items[3]
    assert len(first[5]) == 1024


@pytest.mark.slow
async def test_millions_of_items_at_once_hold_nobody_up(dsn: str) -> None:
    body = b"[" + b"{}," * 2_700_000 + b"{}]"
    async with api_on(dsn) as http:
        posts = [
            asyncio.create_task(http.post("/v1/events/batch", content=body, headers=JSON))
            for _ in range(8)
        ]
        longest, last = 0.0, process_time()
        while not all(post.done() for post in posts):
            await asyncio.sleep(0)
            longest, last = max(longest, process_time() - last), process_time()
    # A busy database may not store eight dead letters of 8 MB in time.
    assert {post.result().status_code for post in posts} <= {422, 503}
    reasons = {post.result().json().get("reason") for post in posts}
    assert reasons <= {"too_many_items", None}
    assert longest < 1, "the seed of this test: each post held the loop for 0.6 to 1 s of CPU"
