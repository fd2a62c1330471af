"""The API as a role: start, serve, stop."""

import asyncio

from api.app import create_app, create_status_app
from api.auth.authenticator import Authenticator
from api.auth.upkeep import follow
from api.export.store import CONNECTIONS_MAX, EXPORT_SESSION
from api.serve.sockets import listen
from api.serve.uvicorn_server import serve
from api.serve.workers import Worker
from api.services import Services, build_services
from ingestor.pipeline import Pipeline
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.database import API_SESSION, LOOKUP_SESSION, open_pool
from schema.event import Door
from schema.migrate import until_migrated

READERS_MAX, LOOKUPS_MAX = 8, 4
# Beyond either limit posts answer 503 at once. A decoded payload takes about three times its size.
WAITING_POSTS_MAX, WAITING_BYTES_MAX = 2000, 48 * 1024 * 1024


async def run(
    settings: Settings,
    stop: asyncio.Event,
    health: Health,
    metrics: Metrics,
    worker: Worker | None = None,
) -> None:
    """Answer over HTTP until `stop` is set. Raises StartError if it cannot start here."""
    shared = worker is not None
    listener = listen(settings.http_host, settings.http_port, "HTTP_PORT", shared=shared)
    dsn = settings.dsn
    name = f"{settings.instance} api"
    async with (
        await open_pool(dsn, name, API_SESSION, size_max=READERS_MAX) as pool,
        await open_pool(
            dsn, f"{name} look-up", LOOKUP_SESSION, size_max=LOOKUPS_MAX
        ) as lookup_pool,
        await open_pool(
            dsn, f"{name} export", EXPORT_SESSION, size_max=CONNECTIONS_MAX
        ) as export_pool,
    ):
        pipeline = Pipeline.of(
            settings,
            name=f"{name} writer",
            door=Door.HTTP,
            health=health,
            metrics=metrics,
            waiting_max=WAITING_POSTS_MAX,
            waiting_bytes_max=WAITING_BYTES_MAX,
        )
        services = build_services(
            settings,
            name=name,
            pool=pool,
            lookup_pool=lookup_pool,
            export_pool=export_pool,
            pipeline=pipeline,
            health=health,
            metrics=metrics,
            worker=worker,
        )
        drained = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            following = group.create_task(_follow(settings, health, services))
            writing = group.create_task(pipeline.run(drained))
            reading = group.create_task(services.feed.run())
            watching = group.create_task(services.latest_events.run())
            serving = group.create_task(
                serve(
                    create_app(settings, services),
                    listener,
                    stop,
                    settings.bodies_bytes_max,
                    settings.proxy_networks,
                )
            )
            await stop.wait()
            await services.feed.stop()
            await serving
            drained.set()
            await writing
            reading.cancel()
            watching.cancel()
            following.cancel()


async def _follow(settings: Settings, health: Health, services: Services) -> None:
    """Once the tables exist, follow the credentials if authentication is on."""
    await until_migrated(settings.dsn, health)
    if services.authenticator is not None:
        name = f"{settings.instance} api"
        await follow(settings.dsn, name, services.authenticator, services.feed.recheck)


async def run_status(
    settings: Settings,
    stop: asyncio.Event,
    health: Health,
    _: Metrics,
    worker: Worker | None = None,
) -> None:
    """Serve `/health`, `/live` and `/metrics` of a role without an API, if STATUS_PORT is set."""
    if settings.status_port is None:
        return
    shared = worker is not None
    listener = listen(settings.status_host, settings.status_port, "STATUS_PORT", shared=shared)
    authenticator = Authenticator() if settings.authenticated else None
    app = create_status_app(settings, health, worker, authenticator)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(
            serve(app, listener, stop, settings.bodies_bytes_max, settings.proxy_networks)
        )
        if authenticator is not None:
            following = group.create_task(_follow_for_status(settings, health, authenticator))
            serving.add_done_callback(lambda _: following.cancel())


async def _follow_for_status(
    settings: Settings, health: Health, authenticator: Authenticator
) -> None:
    await until_migrated(settings.dsn, health)
    await follow(settings.dsn, f"{settings.instance} status", authenticator)
