"""Retry while the database is unavailable: without end, with capped backoff, shown in the health checks."""

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
STORING = "no write is being retried"

T = TypeVar("T")

log = structlog.get_logger()


class StoreRetry:
    """Reports the check `storing`, which fails while any write is being retried.

    A database that answers may still refuse every write: a lock, a full disk, a missing grant.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        health.report(CHECK, ok=True, detail=STORING)

    async def __call__(self, action: Callable[[], Awaitable[T]]) -> T:
        """The result of `action`, which is retried as long as it raises StoreUnavailable.

        The first attempt runs outside stamina, which costs 50 µs: nearly all attempts succeed.
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
        if self._health.add_failure(CHECK, "the database accepts no writes, retrying") == 1:
            log.warning(
                "Nothing can be stored; nothing is acknowledged until a retry succeeds.",
                error=str(error),
            )

    def _recover(self) -> None:
        if self._health.remove_failure(CHECK, STORING) == 0:
            log.info("The database accepts writes again.")
