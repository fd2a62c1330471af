"""Waiting for the database: as long as it takes, with capped backoff, visible in the health checks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
import structlog

from runtime.errors import StoreUnavailable
from runtime.health import Health

WAIT_S_FIRST = 0.1
WAIT_S_MAX = 2.0
CHECK = "storing"

T = TypeVar("T")

log = structlog.get_logger()


class StoreRetry:
    """The check `storing`: failing while anything at all waits to be stored and cannot be.

    The database may answer and take nothing: a lock, a full disk, a missing grant.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        health.report(CHECK, ok=True, detail="nothing waits in vain")

    async def __call__(self, action: Callable[[], Awaitable[T]]) -> T:
        """The result of `action`, tried again for as long as it raises StoreUnavailable.

        The first attempt stands by itself: nearly all succeed, and the library costs 50 µs.
        """
        try:
            return await action()
        except StoreUnavailable as error:
            self._fail(error)
        try:
            await asyncio.sleep(WAIT_S_FIRST)
            async for attempt in stamina.retry_context(
                on=StoreUnavailable,
                attempts=None,
                timeout=None,
                wait_initial=WAIT_S_FIRST,
                wait_max=WAIT_S_MAX,
                wait_jitter=WAIT_S_FIRST,
            ):
                with attempt:
                    return await action()
            raise AssertionError("retry_context ends only with a result")  # pragma: no cover
        finally:
            self._recover()

    def _fail(self, error: StoreUnavailable) -> None:
        if self._health.add_failure(CHECK, "the database takes nothing, trying again") == 1:
            log.warning("Nothing can be stored, nothing is acknowledged.", error=str(error))

    def _recover(self) -> None:
        if self._health.remove_failure(CHECK, "nothing waits in vain") == 0:
            log.info("The database stores again.")
