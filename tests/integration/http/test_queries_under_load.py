"""What a few heavy queries cost all other requests."""

import asyncio
from time import process_time

import pytest

from api.store.database import Database
from runtime.errors import Overloaded
from schema.database import open_pool
from tests.support.http.http_api import api_on

pytestmark = pytest.mark.slow

CENTURIES = {
    "metric": "temp",
    "from_time": "1900-01-01T00:00:00Z",
    "to_time": "2200-01-01T00:00:00Z",
    "interval": "1d",
    "tz": "Asia/Kolkata",
}
ANSWER_S_MAX = 1.0  # Of CPU, which other programs do not change.


async def test_a_busy_pool_is_not_reported_as_an_unavailable_database(
    monkeypatch: pytest.MonkeyPatch, postgres: str
) -> None:
    async with await open_pool(postgres, "busy", {}, size_max=1) as pool:
        database = Database(pool)
        async with database.connection(5):
            with monkeypatch.context() as patch:
                patch.setattr("api.store.database.ACQUIRE_S_MAX", 0.05)
                with pytest.raises(Overloaded, match="retry"):
                    await database.fetch_value("select 1")
        assert await database.fetch_value("select 1") == 1


async def test_the_days_of_centuries_delay_no_other_request(dsn: str) -> None:
    async with api_on(dsn) as client:
        wide = [
            asyncio.create_task(client.get("/v1/metrics/aggregate", params=CENTURIES))
            for _ in range(4)
        ]
        await asyncio.sleep(0.05)
        slowest = 0.0
        while not all(task.done() for task in wide):
            began = process_time()
            assert (await client.get("/live")).status_code == 200
            slowest = max(slowest, process_time() - began)
            await asyncio.sleep(0.02)
        assert slowest < ANSWER_S_MAX
        assert [(task.result().status_code, task.result().json()) for task in wide] == [
            (200, [])
        ] * 4
