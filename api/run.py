"""The API as a role: start, serve, stop."""

import asyncio

from api.aggregate.store import AggregateStore
from api.app import Services, create_app, create_status_app
from api.export.store import CONNECTIONS_MAX, EXPORT_LIMITS, Exports
from api.feed import FeedReader
from api.ingest.door import HttpDoor
from api.ingest.rate_limit import RateLimiter
from api.ingest.replay import ReplayRunner
from api.serve.sockets import listen
from api.serve.uvicorn_server import serve
from api.serve.workers import Worker
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
from schema.migrate import until_migrated

READERS_MAX = 8
# Beyond either posts answer 503 at once. Decoded, a payload takes about three times its size.
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
    limits = AcceptLimits.of(settings)
    name = f"{settings.instance} api"
    async with (
        await open_pool(dsn, name, READER_LIMITS, size_max=READERS_MAX) as pool,
        await open_pool(dsn, f"{name} export", EXPORT_LIMITS, size_max=CONNECTIONS_MAX) as slices,
    ):
        pipeline = Pipeline(
            dsn,
            WriterLimits(limits),
            name=f"{name} writer",
            default_profile=settings.default_profile,
            offline_after_s=settings.offline_after_seconds,
            door=Door.HTTP,
            health=health,
            metrics=metrics,
            waiting_max=WAITING_POSTS_MAX,
            waiting_bytes_max=WAITING_BYTES_MAX,
        )
        limiter = RateLimiter(settings.rate_limit_requests, settings.rate_limit_window_seconds)
        feed = FeedReader(dsn, pool, f"{name} feed", metrics.streams)
        reader = Database(pool)
        services = Services(
            store=EventStore(reader, settings.default_profile),
            registry=RegistryStore(reader, settings.default_profile),
            rules=RuleStore(reader),
            aggregates=AggregateStore(reader),
            door=HttpDoor(pipeline, limiter, limits),
            feed=feed,
            replays=ReplayRunner(dsn, f"{name} replay", pipeline, limits),
            exports=Exports(slices),
            checks=health,
            request_seconds=metrics.request_seconds,
            worker=worker,
        )
        drained = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(until_migrated(dsn, health))
            writing = group.create_task(pipeline.run(drained))
            reading = group.create_task(feed.run())
            serving = group.create_task(serve(create_app(settings, services), listener, stop))
            await stop.wait()
            await feed.stop()
            await serving
            drained.set()
            await writing
            reading.cancel()


async def run_status(
    settings: Settings,
    stop: asyncio.Event,
    health: Health,
    _: Metrics,
    worker: Worker | None = None,
) -> None:
    """`/health`, `/live` and `/metrics` of a role without an API, where STATUS_PORT asks for it."""
    if settings.status_port is None:
        return
    shared = worker is not None
    listener = listen(settings.status_host, settings.status_port, "STATUS_PORT", shared=shared)
    await serve(create_status_app(health, worker), listener, stop)
