"""The embedded broker as a child process, and the socket through which it learns who may log in."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress

from broker.embedded.account_changes import accounts_of, changes, encode
from broker.embedded.accounts import Account
from cli.roles.runner import Role
from cli.up.embedded import CHECK_EVERY_S, EmbeddedPart
from runtime.addresses import MqttAddress
from runtime.errors import StartError
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.postgres.user import end_with_parent
from runtime.settings import Settings
from schema.access.watch import follow_credentials

READY_S_MAX = 15
STOP_S_MAX = 1
POLL_S = 0.02


class BrokerProcess:
    """Nobody else can read from the socket, so our password goes through it, too."""

    def __init__(self, password: str) -> None:
        self._socket, childs = socket.socketpair()
        with childs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli", "broker", "--parent-on-stdin"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=childs.fileno(),
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGKILL),  # noqa: PLW1509  # No thread runs yet.
            )
        self._socket.sendall(f"{password}\n".encode())
        self._socket.setblocking(False)
        self._known: dict[str, Account] = {}

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until_it_listens(self, address: MqttAddress) -> None:
        """Raises StartError."""
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline:
            if not self.running:
                raise StartError(
                    "The embedded broker did not start; the lines above give the reason."
                )
            endpoint = address.host, address.port
            with suppress(OSError), socket.create_connection(endpoint, timeout=1):
                return
            time.sleep(POLL_S)
        raise StartError(f"The embedded broker did not listen within {READY_S_MAX} s.")

    async def give(self, accounts: dict[str, Account]) -> None:
        """Tell it what changed since the last time, at first all. Raises OSError if it ended."""
        loop = asyncio.get_running_loop()
        for change in changes(self._known, accounts):
            await loop.sock_sendall(self._socket, encode(change))
        self._known = accounts

    def stop(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S_MAX)
        self._process.kill()
        self._process.wait()
        self._socket.close()


def broker_part(address: MqttAddress, password: str) -> EmbeddedPart[BrokerProcess]:
    """The broker has a process of its own, so that its work does not delay the roles."""
    return EmbeddedPart(
        "broker", lambda: _broker(address, password), lambda process: process.running
    )


@contextmanager
def _broker(address: MqttAddress, password: str) -> Iterator[BrokerProcess]:
    process = BrokerProcess(password)
    try:
        process.wait_until_it_listens(address)
        yield process
    finally:
        process.stop()


def account_feed(part: EmbeddedPart[BrokerProcess]) -> Role:
    """A role that gives the broker, also after a restart, the accounts of the tables."""

    async def feed(settings: Settings, stop: asyncio.Event, _: Health, __: Metrics) -> None:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(_AccountFeed(part).run(settings))
            await stop.wait()
            feeding.cancel()

    return feed


class _AccountFeed:
    """While the database is away, a restarted broker gets the last accounts that were read."""

    def __init__(self, part: EmbeddedPart[BrokerProcess]) -> None:
        self._part = part
        self._accounts: dict[str, Account] = {}
        self._changed = asyncio.Event()

    async def run(self, settings: Settings) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(settings))
            group.create_task(self._give())

    async def _follow(self, settings: Settings) -> None:
        name = f"{settings.instance} broker accounts"
        async with aclosing(follow_credentials(settings.dsn, name)) as following:
            async for credentials in following:
                self._accounts = accounts_of(credentials)
                del credentials  # Ten thousand of them take megabytes.
                self._changed.set()

    async def _give(self) -> None:
        await self._changed.wait()
        given_to: BrokerProcess | None = None
        while True:
            process = self._part.value
            if self._changed.is_set() or process is not given_to:
                self._changed.clear()
                given_to = process
                with suppress(OSError):  # It ended; the supervisor starts another one.
                    await process.give(self._accounts)
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY_S):
                    await self._changed.wait()
