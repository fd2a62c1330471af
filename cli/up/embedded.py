"""The embedded PostgreSQL and broker: each in a process of its own, restarted when it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Generic, Self, TypeVar, cast

import structlog

from cli.roles import Role
from runtime.addresses import MqttAddress
from runtime.errors import StartError
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.postgres.server import embedded_postgres, has_listener
from runtime.postgres.user import end_with_parent
from runtime.settings import Settings
from runtime.signals import unless_stopped

BROKER_READY_S_MAX = 15
BROKER_STOP_S_MAX = 1
BROKER_POLL_S = 0.02
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


def broker_part(address: MqttAddress, password: str) -> EmbeddedPart["subprocess.Popen[bytes]"]:
    """It gets the password of our sessions through a pipe: nobody else can read it there."""
    return EmbeddedPart(
        "broker", lambda: _broker(address, password), lambda process: process.poll() is None
    )


def supervisor(parts: Sequence[EmbeddedPart[Any]]) -> Role:
    """A role that restarts the parts."""

    async def supervise(_: Settings, stop: asyncio.Event, __: Health, ___: Metrics) -> None:
        while await unless_stopped(stop, asyncio.sleep(CHECK_EVERY_S)):
            for part in parts:
                part.restart_if_ended()

    return supervise


@contextmanager
def _broker(address: MqttAddress, password: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The embedded broker in its own process, so that its work does not delay the roles."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "broker", "--password-from-stdin"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=end_with_parent(signal.SIGKILL),  # noqa: PLW1509  # No thread runs yet.
    )
    try:
        with suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as pipe:
            pipe.write(f"{password}\n".encode())
        _wait_for_broker(process, address)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(BROKER_STOP_S_MAX)
        process.kill()
        process.wait()


def _wait_for_broker(process: "subprocess.Popen[bytes]", address: MqttAddress) -> None:
    deadline = time.monotonic() + BROKER_READY_S_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError("The embedded broker did not start; the lines above give the reason.")
        with suppress(OSError), socket.create_connection((address.host, address.port), timeout=1):
            return
        time.sleep(BROKER_POLL_S)
    raise StartError(f"The embedded broker did not listen within {BROKER_READY_S_MAX} s.")
