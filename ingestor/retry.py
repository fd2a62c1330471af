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

    A database that answers may still refuse every write: a lock, a full disk, a missing grant. So a writer
    that failed counts as failing until it has committed something, whatever else succeeds meanwhile.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._failing: set[object] = set()
        health.report(CHECK, ok=True, detail=STORING)

    async def __call__(self, action: Callable[[], Awaitable[T]], *, by: object) -> T:
        """The result of `action`, which is retried as long as it raises StoreUnavailable.

        `by` is the part that retries. Another error says nothing of the database: it is raised,
        and the failure stays. The first attempt runs outside stamina, which costs 50 µs: nearly all succeed.
        """
        try:
            result = await action()
        except StoreUnavailable as error:
            self._fail(by, error)
            result = await self._until_available(action)
        if by in self._failing:
            self._recover(by)
        return result

    async def _until_available(self, action: Callable[[], Awaitable[T]]) -> T:
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

    def _fail(self, by: object, error: StoreUnavailable) -> None:
        if by in self._failing:
            return
        self._failing.add(by)
        if self._health.add_failure(CHECK, "the database accepts no writes, retrying") == 1:
            log.warning(
                "Nothing can be stored; nothing is acknowledged until a retry succeeds.",
                error=str(error),
            )

    def _recover(self, by: object) -> None:
        self._failing.discard(by)
        if self._health.remove_failure(CHECK, STORING) == 0:
            log.info("The database accepts writes again.")
