"""The API of one process on a database, called without a socket; posts go through its pipeline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
from pydantic import SecretStr

from api.auth.upkeep import follow
from api.services import build_services
from ingestor.pipeline import Pipeline
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.database import API_SESSION, LOOKUP_SESSION, open_pool
from schema.event import Door
from tests.support.http.shared_app import application

POSTS_PER_SECOND = 1000
READ_WITHIN_S = 60


@asynccontextmanager
async def api_on(
    dsn: str, name: str = "test api", **overrides: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """`overrides` are settings. With authentication on it begins once the credentials are read.

    Its services are the attribute `services` of the client.
    """
    defaults = {"rate_limit_requests": POSTS_PER_SECOND, "rate_limit_window_seconds": 1}
    settings = Settings(database_url=SecretStr(dsn), **defaults | overrides)
    health, metrics = Health(("database",)), Metrics()
    pipeline = Pipeline.of(
        settings, name=f"{name} writer", door=Door.HTTP, health=health, metrics=metrics
    )
    stop = asyncio.Event()
    async with (
        await open_pool(dsn, name, API_SESSION, size_max=4) as pool,
        await open_pool(dsn, name, LOOKUP_SESSION, size_max=1) as lookup_pool,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(pipeline.run(stop))
        services = build_services(
            settings,
            name=name,
            pool=pool,
            lookup_pool=lookup_pool,
            export_pool=pool,
            pipeline=pipeline,
            health=health,
            metrics=metrics,
        )
        if (authenticator := services.authenticator) is not None:
            changed = services.feed.recheck
            following = group.create_task(follow(dsn, name, authenticator, changed))
            async with asyncio.timeout(READ_WITHIN_S):
                while not authenticator.keys.were_read:  # A request waits for a second only.
                    await authenticator.keys.until(lambda: authenticator.keys.were_read)
        reading = group.create_task(services.feed.run())
        watching = group.create_task(services.latest_events.run())
        with application(settings, services) as app:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(cast("Any", app)), base_url="http://127.0.0.1:8000"
            ) as client:
                cast("Any", client).services = services
                yield client
        stop.set()
        reading.cancel()
        watching.cancel()
        if authenticator is not None:
            following.cancel()


def next_page(response: httpx.Response) -> str | None:
    """The target of the Link header."""
    return response.links["next"]["url"] if "next" in response.links else None


async def all_pages(client: httpx.AsyncClient, url: str) -> list[Any]:
    """The rows of all pages of a list."""
    rows: list[Any] = []
    following: str | None = url
    while following is not None:
        response = await client.get(following)
        assert response.status_code == httpx.codes.OK, response.text
        rows += response.json()
        following = next_page(response)
    return rows
