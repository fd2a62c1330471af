"""The pipeline as both doors use it, on a database of the test's own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from ingestor.batch import Message
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.presence import TELEMETRY, PresenceSignal
from ingestor.decode.strict import decode
from ingestor.pipeline import Pipeline
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.database import Connection
from schema.event import Door, Verdict
from schema.instants import now_us
from tests.support.brokers.mosquitto import mosquitto, require_mosquitto
from tests.support.brokers.mqtt import embedded_broker
from tests.support.http.http_api import api_on

EVENT_AGE_DAYS_MAX = 730
# Every other limit is a default; the environment of the developer does not change it.
LIMITS = AcceptLimits.of(Settings.model_construct(max_event_age_days=EVENT_AGE_DAYS_MAX))


class Doors:
    """Events into one pipeline, over HTTP and as MQTT would bring them."""

    def __init__(self, pipeline: Pipeline, health: Health) -> None:
        self.pipeline, self.health = pipeline, health

    async def post(self, document: Any) -> list[Verdict]:
        payload = json.dumps(document).encode()
        origin = Origin(now_us())
        return await self.pipeline.submit(payload, origin, decode(payload, origin, LIMITS))

    async def publish(
        self, device_id: str, payload: bytes | Any, *, retained: bool = False
    ) -> list[Verdict]:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signal = None if retained else TELEMETRY
        return await self._accept(device_id, raw, signal, retained=retained)

    async def signal(self, device_id: str, signal: PresenceSignal) -> None:
        await self._accept(device_id, b"", signal, items=[])

    async def _accept(
        self,
        device_id: str,
        payload: bytes,
        signal: PresenceSignal | None,
        *,
        retained: bool = False,
        **more: Any,
    ) -> list[Verdict]:
        settled: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        origin = Origin(now_us(), device_id, retained)
        self.pipeline.accept(
            Message(
                Door.MQTT,
                payload,
                origin,
                lambda message: settled.set_result(message.verdicts),
                signal,
                **more,
            )
        )
        return await settled


def make_pipeline(
    dsn: str,
    name: str = "test",
    *,
    metrics: Metrics | None = None,
    waiting_bytes_max: int | None = None,
) -> tuple[Pipeline, Health]:
    health = Health(("database",))
    pipeline = Pipeline.of(
        Settings(database_url=SecretStr(dsn), max_event_age_days=EVENT_AGE_DAYS_MAX),
        name=name,
        door=Door.MQTT,
        health=health,
        metrics=metrics or Metrics(),
        waiting_bytes_max=waiting_bytes_max,
    )
    return pipeline, health


@asynccontextmanager
async def open_doors(dsn: str) -> AsyncIterator[Doors]:
    pipeline, health = make_pipeline(dsn)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(pipeline.run(stop))
        yield Doors(pipeline, health)
        stop.set()


@pytest.fixture
async def doors(dsn: str) -> AsyncIterator[Doors]:
    async with open_doors(dsn) as doors:
        yield doors


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http_of_the_file(database: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API that the tests of a file share, and so its event loop, with `loop_scope="module"`."""
    async with api_on(database) as client:
        yield client


@pytest.fixture(params=["embedded", "mosquitto"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """Of a broker: each test that asks for it runs on the embedded one and on Mosquitto."""
    if request.param == "embedded":
        async with embedded_broker() as port:
            yield port
        return
    require_mosquitto()
    with mosquitto() as broker:
        yield broker.port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(database: str) -> AsyncIterator[Connection]:
    """A connection to the database of the file, in the event loop of the file."""
    connection = await asyncpg.connect(database)
    yield connection
    connection.terminate()
