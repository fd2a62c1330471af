"""The API of one process on a database, asked without a socket; posts go through its own pipeline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from api.aggregate.store import AggregateStore
from api.app import Services, create_app
from api.export.store import Exports
from api.ingest.door import HttpDoor
from api.ingest.rate_limit import RateLimiter
from api.store.database import Database
from api.store.events import EventStore
from api.store.registry import RegistryStore
from api.store.rules import RuleStore
from ingestor.decode.acceptance import AcceptLimits
from ingestor.pipeline import Pipeline
from ingestor.writer import WriterLimits
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.database import READER_LIMITS, open_pool
from schema.event import Door

POSTS_PER_SECOND = 1000
NOTHING: Any = None


@asynccontextmanager
async def api_on(dsn: str, name: str = "test api") -> AsyncIterator[httpx.AsyncClient]:
    settings, health, metrics = Settings(), Health(("database",)), Metrics()
    limits = AcceptLimits.of(settings)
    pipeline = Pipeline(
        dsn,
        WriterLimits(limits),
        name=f"{name} writer",
        default_profile=settings.default_profile,
        offline_after_s=settings.offline_after_seconds,
        door=Door.HTTP,
        health=health,
        metrics=metrics,
    )
    stop = asyncio.Event()
    async with (
        await open_pool(dsn, name, READER_LIMITS, size_max=4) as pool,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(pipeline.run(stop))
        reader = Database(pool)
        services = Services(
            store=EventStore(reader, settings.default_profile),
            registry=RegistryStore(reader, settings.default_profile),
            rules=RuleStore(reader),
            aggregates=AggregateStore(reader),
            door=HttpDoor(pipeline, RateLimiter(POSTS_PER_SECOND, 1), limits),
            feed=NOTHING,
            replays=NOTHING,
            exports=Exports(pool),
            checks=health,
            request_seconds=metrics.request_seconds,
        )
        transport = httpx.ASGITransport(cast("Any", create_app(settings, services)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8000"
        ) as client:
            yield client
        stop.set()


def next_page(answer: httpx.Response) -> str | None:
    """Where the Link header leads."""
    return answer.links["next"]["url"] if "next" in answer.links else None


async def all_pages(client: httpx.AsyncClient, url: str) -> list[Any]:
    """The rows of every page of a list, each of which must be answered."""
    rows: list[Any] = []
    following: str | None = url
    while following is not None:
        answer = await client.get(following)
        assert answer.status_code == httpx.codes.OK, answer.text
        rows += answer.json()
        following = next_page(answer)
    return rows
