"""Alerts under several writers, seen by a client that loses its connection all the time."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.chaos.seeds import rounds
from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.processes.services import Process

WRITERS = 3
RECONNECTS = rounds(short=8, long=50)


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Writers that post violations and values that clear, until the block ends."""
    stop = threading.Event()

    def write(writer: int) -> None:
        dice = Random(writer)
        with plain_http.Client(base_url=url, timeout=30) as http:
            for n in count():
                if stop.is_set():
                    return
                device_id = f"reconnect{dice.randrange(4)}"
                event: dict[str, Any] = {
                    "event_id": f"w{writer}-{n}",
                    "device_id": device_id,
                    "tags": ["reconnect"],
                }
                event |= {"metrics": {"level": dice.choice([10, 50])}}
                assert http.post("/v1/events/batch", json=[event]).status_code == httpx.codes.OK

    threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def read_some(url: str, after: int, most: int) -> list[int]:
    """Up to `most` numbers of a new connection that resumes after one, which is then cut."""
    found: list[int] = []
    headers = {"Last-Event-ID": str(after)}
    with plain_http.stream("GET", f"{url}/v1/alerts/stream", headers=headers, timeout=30) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[len("data: ") :])["id"])
                if len(found) == most:
                    break
    return found


async def numbers_in_the_table(dsn: str, until: int) -> list[int]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "select first_id + n as number from feed join outbox using (block)"
            " where kind = 'alert' and first_id + n <= $1 order by 1",
            until,
        )
    finally:
        await connection.close()
    return [row["number"] for row in rows]


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_the_pieces_of_a_stream_that_is_cut_again_and_again_are_the_table(
    up: Process, database: str
) -> None:
    url, dice = base_url(up), Random(1)
    rule = {"tag": "reconnect", "metric": "level", "op": ">", "threshold": 30}
    plain_http.post(f"{url}/v1/alerts", json=rule).raise_for_status()
    seen: list[int] = []
    with writing(url):
        for _ in range(RECONNECTS):
            seen += read_some(url, seen[-1] if seen else 0, dice.randrange(1, 8))
    assert seen == asyncio.run(numbers_in_the_table(database, seen[-1]))


def test_one_stream_carries_newest_events_alerts_and_presence_and_is_resumed(up: Process) -> None:
    url = base_url(up)
    rule = {"device_id": "live", "metric": "level", "op": ">", "threshold": 30}
    plain_http.post(f"{url}/v1/alerts", json=rule).raise_for_status()
    types: list[tuple[str, str | None]] = []
    with plain_http.stream("GET", f"{url}/v1/live?device_id=live", timeout=30) as stream:
        lines = stream.iter_lines()
        assert [next(lines), next(lines)] == ["event: latest", "data: []"]
        event = {"event_id": "e1", "device_id": "live", "metrics": {"level": 50}}
        assert plain_http.post(f"{url}/v1/events", json=event).json() == {"status": "ok"}
        while len(types) < 3:
            types += events_of(lines)
    assert {kind for kind, _ in types} == {"latest", "alert", "presence"}
    first = min(int(number) for _, number in types if number is not None)
    resume = {"Last-Event-ID": str(first)}
    with plain_http.stream("GET", f"{url}/v1/live?device_id=live", headers=resume) as stream:
        lines = stream.iter_lines()
        again = events_of(lines) + events_of(lines)
    assert again[0][0] == "latest"
    assert again[1] == next(each for each in types if each[1] not in {None, str(first)})


def events_of(lines: Iterator[str]) -> list[tuple[str, str | None]]:
    """The next event with its type and id, if the next lines are one."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            break
        name, _, value = line.partition(": ")
        fields[name] = value
    return [(fields["event"], fields.get("id"))] if "event" in fields else []
