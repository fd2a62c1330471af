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

from broker.embedded.account_changes import CONFIRMATION, accounts_of, changes, encode
from broker.embedded.accounts import Account
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
        """Return once it has applied what changed, at first all. Raises OSError if it ended."""
        loop = asyncio.get_running_loop()
        with self._socket.dup() as sock:  # The supervisor closes ours if the broker ended.
            for change in changes(self._known, accounts):
                await loop.sock_sendall(sock, encode(change))
            if not await loop.sock_recv(sock, len(CONFIRMATION)):
                raise ConnectionResetError
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


class AccountFeed:
    """A role that gives the broker, also after a restart, the accounts of the tables.

    While the database is away, a restarted broker gets the last accounts that were read.
    """

    def __init__(self, part: EmbeddedPart[BrokerProcess]) -> None:
        self._part = part
        self._accounts: dict[str, Account] = {}
        self._changed = asyncio.Event()
        self._given: dict[str, Account] = {}
        self._applied = asyncio.Condition()

    async def run(self, settings: Settings, stop: asyncio.Event, _: Health, __: Metrics) -> None:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(settings))
            giving = group.create_task(self._give())
            await stop.wait()
            following.cancel()
            giving.cancel()

    async def until_known(self, address: MqttAddress, device_id: str, s_max: float) -> None:
        """Return once the broker knows this login, without trying it. Raises StartError."""
        secret = (address.password or "").encode()
        try:
            async with asyncio.timeout(s_max), self._applied:
                await self._applied.wait_for(lambda: self._knows(device_id, secret))
        except TimeoutError:
            raise StartError(
                f"The embedded broker does not know the new login of {device_id} after {s_max:g} s."
            ) from None

    def _knows(self, login: str, secret: bytes) -> bool:
        account = self._given.get(login)
        return account is not None and account.accepts(secret) is not None

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
                    await self._give_to(process)
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY_S):
                    await self._changed.wait()

    async def _give_to(self, process: BrokerProcess) -> None:
        accounts = self._accounts
        await process.give(accounts)
        async with self._applied:
            self._given = accounts
            self._applied.notify_all()
