"""Exports as a client sees them: slow ones, those that hang up, and too many at once."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.processes.services import ForkedProcess, Process, free_port, temporary_folder

EVENTS, VALUES = 300_000, 600_000
GROWTH_BYTES_MAX = 30_000_000
PLACES = 4
BUSY = (
    "select count(*) from pg_stat_activity where application_name like '% export'"
    " and datname = current_database() and (state <> 'idle' or backend_xmin is not null)"
)
MAKE_EVENTS = f"""
    insert into device (device_id) select 'd' || n from generate_series(1, 10) n;
    insert into event
    select n % 10 + 1, timestamptz '2026-10-01Z' + n * interval '1 second', 'event-' || n,
           '{{"temp": 20.5, "soc_percent": 67}}', '{{}}', n, now()
    from generate_series(1, {EVENTS}) n
"""


@pytest.fixture
def api(dsn: str) -> Iterator[Process]:
    asyncio.run(sql(dsn, MAKE_EVENTS))
    settings = {"DATABASE_URL": dsn, "HTTP_PORT": str(free_port())}
    with temporary_folder() as folder, ForkedProcess(folder, "api", settings=settings) as process:
        process.wait_until_ok(f"{base_url(process)}/health")
        yield process


async def sql(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await (connection.execute if ";" in query else connection.fetchval)(query)
    finally:
        await connection.close()


def come_to_rest(dsn: str) -> None:
    """Wait until exports have run no query and held no connection for a second."""
    deadline, quiet = time.monotonic() + 60, 0
    while quiet < 10:
        assert time.monotonic() < deadline
        quiet = quiet + 1 if asyncio.run(sql(dsn, BUSY)) == 0 else 0
        time.sleep(0.1)


@pytest.mark.chaos
def test_clients_that_are_slow_leave_or_are_too_many(api: Process, dsn: str) -> None:
    """One test, since generating its events takes longest."""
    rss = psutil.Process(api.process.pid).memory_info
    url = f"{base_url(api)}/v1/export?format="
    assert plain_http.get(f"{url}csv&device_id=d1", timeout=30).text.count("\n") == VALUES // 10 + 1
    before = rss().rss

    # A client may pause: the server buffers nothing, and the export holds nothing in the database.
    with plain_http.stream("GET", f"{url}csv", timeout=30) as slow:
        assert slow.headers["content-disposition"].endswith('export.csv"')
        assert slow.headers["cache-control"] == "no-store"
        grown, lines = 0, 0
        for n, piece in enumerate(slow.iter_bytes()):
            lines += piece.count(b"\n")
            if n == 0:
                come_to_rest(dsn)
            grown = max(grown, rss().rss - before)
        assert lines == VALUES + 1
        assert grown < GROWTH_BYTES_MAX

    # Parquet, too, is written while it is read; the first file includes the memory of pyarrow itself.
    parquet = f"{url}parquet&from_time=2026-10-02T20:00:00Z"
    assert plain_http.get(f"{parquet}&device_id=d1", timeout=30).content.endswith(b"PAR1")
    before, grown = rss().rss, 0
    with plain_http.stream("GET", parquet, timeout=30) as response:
        for _ in response.iter_bytes():
            grown = max(grown, rss().rss - before)
    assert grown < GROWTH_BYTES_MAX

    with ExitStack() as open_ones:
        held = [
            open_ones.enter_context(plain_http.stream("GET", f"{url}ndjson", timeout=30))
            for _ in range(PLACES)
        ]
        assert [one.status_code for one in held] == [200] * PLACES
        refused = plain_http.get(f"{url}ndjson", timeout=30)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert plain_http.get(f"{base_url(api)}/v1/devices", timeout=30).status_code == 200

        # A client that disconnects frees its slot at once.
        held[0].close()
        deadline = time.monotonic() + 30
        while plain_http.get(f"{url}csv&device_id=none", timeout=30).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        # An incomplete file can be distinguished from a complete one.
        asyncio.run(sql(dsn, "update rollup_state set floor = '2026-11-01Z';"))
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            held[1].read()
        gone = plain_http.get(f"{url}csv&from_time=2026-10-01T00:00:00Z", timeout=30)
        assert gone.status_code == 422
        assert gone.json()["available_from"] == "2026-11-01T00:00:00Z"
