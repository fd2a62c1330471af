"""The embedded PostgreSQL and broker: each in a process of its own, restarted when it ends."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import structlog

from cli.roles.runner import Role
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.postgres.server import embedded_postgres, has_listener
from runtime.settings import Settings
from runtime.signals import unless_stopped

CHECK_EVERY_S = 0.5

T = TypeVar("T")

log = structlog.get_logger()


class EmbeddedPart(Generic[T]):
    """A process with what its start returned, `value`: a DSN or a Popen."""

    def __init__(
        self,
        name: str,
        start: Callable[[], AbstractContextManager[T]],
        is_running: Callable[[T], bool],
    ) -> None:
        self._name, self._start, self._is_running = name, start, is_running

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.value = self._stack.enter_context(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart_if_ended(self) -> None:
        """Blocks the event loop: PostgreSQL needs the main thread, and no role works without it."""
        if not self._is_running(self.value):
            log.error("An embedded part ended unexpectedly and is restarted.", part=self._name)
            self.__exit__()
            self.__enter__()


def postgres_part(data_dir: Path, stop_s_max: Callable[[], float]) -> EmbeddedPart[str]:
    return EmbeddedPart(
        "PostgreSQL", lambda: embedded_postgres(data_dir, stop_s_max=stop_s_max), has_listener
    )


def supervisor(parts: Sequence[EmbeddedPart[Any]]) -> Role:
    """A role that restarts the parts."""

    async def supervise(_: Settings, stop: asyncio.Event, __: Health, ___: Metrics) -> None:
        while await unless_stopped(stop, asyncio.sleep(CHECK_EVERY_S)):
            for part in parts:
                part.restart_if_ended()

    return supervise
