"""Waiting for the database: as long as it takes, with capped backoff, visible in the health checks."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
import structlog

from schema.errors import StoreUnavailable
from schema.health import Health

WAIT_S_FIRST = 0.1
WAIT_S_MAX = 2.0

T = TypeVar("T")

log = structlog.get_logger()


async def patiently(health: Health, action: Callable[[], Awaitable[T]]) -> T:
    """The result of `action`, tried again for as long as it raises StoreUnavailable."""
    async for attempt in stamina.retry_context(
        on=StoreUnavailable,
        attempts=None,
        timeout=None,
        wait_initial=WAIT_S_FIRST,
        wait_max=WAIT_S_MAX,
        wait_jitter=WAIT_S_FIRST,
    ):
        with attempt:
            try:
                result = await action()
            except StoreUnavailable as error:
                if health.report("database", ok=False, detail="unavailable, trying again"):
                    log.warning(
                        "The database is unavailable: nothing is acknowledged.", error=str(error)
                    )
                raise
            if health.report("database", ok=True, detail="reachable"):
                log.info("The database is reachable.")
            return result
    raise AssertionError("retry_context ends only with a result")  # pragma: no cover
