"""Run roles in one event loop: garbage collector, loop, signals, health, and the first error."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import REGISTRY

from runtime.errors import VoltwireError, ungrouped
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import finish_in_time, stop_on_signals
from schema.database import watch
from schema.event import Reason
from schema.members import MemberWatch

Role = Callable[[Settings, asyncio.Event, Health, Metrics], Coroutine[Any, Any, None]]


def run_roles(settings: Settings, health: Health, *roles: Role) -> float:
    """Run roles in one loop until they end or a signal stops them.

    Returns how many seconds the shutdown took. Raises the first VoltwireError of a role.
    """
    # Events live for one batch and form no cycles; a collection every 700 objects costs a third.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    with ungrouped(VoltwireError):
        return _loop_runner()(_run(settings, health, roles))


async def _run(settings: Settings, health: Health, roles: tuple[Role, ...]) -> float:
    stop = asyncio.Event()
    stop_on_signals(stop)
    metrics = Metrics(REGISTRY, tuple(Reason))
    metrics.watch(health)

    async def all_roles() -> None:
        async with asyncio.TaskGroup() as group:
            watching: asyncio.Task[None] | None = None
            if settings.database_url is not None:
                name = f"{settings.instance} watch"
                look = MemberWatch(settings.instance, health).look
                watching = group.create_task(watch(settings.dsn, name, health, look))
            async with asyncio.TaskGroup() as working:
                for role in roles:
                    working.create_task(role(settings, stop, health, metrics))
            if watching is not None:
                watching.cancel()

    return await finish_in_time(asyncio.create_task(all_roles()), stop)


def _loop_runner() -> Callable[[Any], float]:
    if sys.platform == "win32":
        return asyncio.run
    import uvloop  # noqa: PLC0415

    return uvloop.run
