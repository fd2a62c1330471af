"""`voltwire broker-files` and the script that runs Mosquitto: changes reach a running broker."""

import asyncio
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create, revoke, rotate
from schema.access.secrets import CredentialKind
from schema.database import Connection
from tests.support.brokers.guarded_mosquitto import connack
from tests.support.brokers.mosquitto import mosquitto_group
from tests.support.brokers.mosquitto_script import MosquittoScript
from tests.support.brokers.mqtt import RawClient, connect_packet
from tests.support.network.certificates import Authority
from tests.support.processes.services import Process, free_port, temporary_folder, voltwire

pytestmark = pytest.mark.timeout(300)
PASSWORD = "ours/with:odd characters"
ACCEPTED, NOT_AUTHORIZED = 0, 5
WAIT_S_MAX, CUT_S_MAX = 60, 5


class Site:
    """A folder with files, certificates and a Mosquitto whose command never ends."""

    def __init__(self, folder: Path, dsn: str, stack: ExitStack) -> None:
        self.dsn, self.port, self.tls_port = dsn, free_port(), free_port()
        self.files, self.certificates = folder / "files", folder / "certificates"
        self.certificates.mkdir()
        self.script = MosquittoScript(folder, self.files, self.certificates)
        self._folder, self._stack = folder, stack

    @property
    def arguments(self) -> list[str]:
        group = mosquitto_group()
        return [
            str(self.files),
            f"--listener=127.0.0.1:{self.port}",
            f"--tls-listener=127.0.0.1:{self.tls_port}",
            f"--certificate-listener=127.0.0.1:{free_port()}",
            f"--certificates={self.certificates}",
            *([f"--group={group}"] if group is not None else []),
        ]

    def settings(self, auth: str) -> dict[str, str]:
        url = f"mqtt://:ours%2Fwith%3Aodd%20characters@127.0.0.1:{self.port}"
        return {"AUTH": auth, "DATABASE_URL": self.dsn, "MQTT_URL": url}

    def once(self, auth: str, *more: str) -> str:
        done = voltwire("broker-files", *self.arguments, *more, **self.settings(auth))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def watch(self, auth: str, *more: str) -> Process:
        arguments = ("broker-files", *self.arguments, "--watch", *more)
        settings = self.settings(auth)
        return self._stack.enter_context(Process(self._folder, *arguments, settings=settings))

    def start_broker(self) -> psutil.Process:
        process = self._stack.enter_context(self.script.running())
        return psutil.Process(process.pid)

    async def code(self, login: str, secret: str | None) -> int | None:
        """The return code of CONNACK; None while the broker does not listen."""
        try:
            return await connack(self.port, connect_packet(login, password=secret))
        except OSError:
            return None

    async def until_code(self, login: str, secret: str | None, expected: int) -> None:
        async with asyncio.timeout(WAIT_S_MAX):
            while await self.code(login, secret) != expected:  # noqa: ASYNC110  # Of another process.
                await asyncio.sleep(0.05)


@pytest.fixture
def site(database: str) -> Iterator[Site]:
    with temporary_folder() as folder, ExitStack() as stack:
        yield Site(folder, database, stack)


@asynccontextmanager
async def tables(site: Site) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(site.dsn)
    try:
        yield connection
        await connection.execute("delete from credential")
    finally:
        await connection.close()


def brokers(script: psutil.Process) -> set[int]:
    return {each.pid for each in script.children() if each.name() == "mosquitto"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110  # Of another process.
            await asyncio.sleep(0.05)


async def test_a_device_gets_in_when_it_is_added_and_is_cut_when_it_is_revoked(site: Site) -> None:
    script = site.start_broker()
    site.watch("on")
    async with tables(site) as db:
        secrets = {
            name: await create(db, COMMAND, CredentialKind.DEVICE, name)
            for name in ("d1", "d2", "a:b")
        }
        key = await create(db, COMMAND, CredentialKind.KEY, "grafana", [Scope.READ])
        await site.until_code("d1", secrets["d1"], ACCEPTED)
        running = brokers(script)
        assert await site.code("a%3Ab", secrets["a:b"]) == ACCEPTED
        assert await site.code("_key.grafana", key) == ACCEPTED
        assert await site.code("voltwire-delivery", PASSWORD) == ACCEPTED
        assert await site.code("d1", secrets["d2"]) == NOT_AUTHORIZED
        assert await site.code("x", None) == NOT_AUTHORIZED

        gone = await RawClient.connect(site.port, "d1", password=secrets["d1"])
        stays = await RawClient.connect(site.port, "d2", password=secrets["d2"])
        began = time.monotonic()
        await revoke(db, COMMAND, ["d1"])
        assert await gone.closed(WAIT_S_MAX)
        assert time.monotonic() - began < CUT_S_MAX
        assert await site.code("d1", secrets["d1"]) == NOT_AUTHORIZED
        await stays.ping()
        assert brokers(script) == running  # It was reloaded, and never restarted.
        stays.drop()


async def test_a_rotated_secret_counts_when_the_overlap_ends(site: Site) -> None:
    site.start_broker()
    site.watch("on")
    async with tables(site) as db:
        old = await create(db, COMMAND, CredentialKind.DEVICE, "d1")
        await site.until_code("d1", old, ACCEPTED)
        new = await rotate(db, COMMAND, CredentialKind.DEVICE, "d1", overlap_s=3)
        await create(
            db, COMMAND, CredentialKind.DEVICE, "later"
        )  # The files are written again meanwhile.
        assert await site.code("d1", new) == NOT_AUTHORIZED
        assert await site.code("d1", old) == ACCEPTED
        await site.until_code("d1", new, ACCEPTED)
        assert await site.code("d1", old) == NOT_AUTHORIZED


async def test_switching_authentication_restarts_the_broker_and_certificates_open_tls(
    site: Site,
) -> None:
    require_tls = Authority.make(site.certificates.parent / "authority")
    script = site.start_broker()
    assert site.once("off") == "The files were written.\n"
    await site.until_code("anyone", None, ACCEPTED)
    first = brokers(script)
    assert site.once("off") == "The files are up to date.\n"
    assert site.once("on") == "The files were written.\n"
    await site.until_code("anyone", None, NOT_AUTHORIZED)
    assert brokers(script) != first
    pair = require_tls.issue("localhost", extensions="server")
    for source, name in zip(pair, ("server.crt", "server.key"), strict=True):
        (site.certificates / name).write_bytes(source.read_bytes())
    site.once("on")
    site.script.wait_for_port(site.tls_port)
    assert site.once("on") == "The files are up to date.\n"


async def test_the_script_stops_with_its_broker_and_ends_when_that_ends(site: Site) -> None:
    site.once("off")
    script = site.start_broker()
    await site.until_code("anyone", None, ACCEPTED)
    (pid,) = brokers(script)
    script.terminate()
    assert script.wait(WAIT_S_MAX) == 0
    assert not psutil.pid_exists(pid)
    saved = site.script.log.read_text()
    assert "terminating" in saved
    script = site.start_broker()
    await site.until_code("anyone", None, ACCEPTED)
    for pid in brokers(script):
        psutil.Process(pid).kill()
    assert script.wait(WAIT_S_MAX) == 128 + signal.SIGKILL


async def test_only_the_owner_and_the_group_can_read_the_files(site: Site) -> None:
    site.once("on")
    expected = 0o600 if mosquitto_group() is None else 0o640
    files = [each for each in site.files.rglob("*") if each.is_file()]
    assert sorted(each.name for each in files) == [
        "acl_certificates", "acl_file", "auth.conf", "password_file",
    ]  # fmt: skip
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {expected}
    assert PASSWORD not in "".join(each.read_text() for each in files)


async def test_a_failing_reload_is_named_and_retried(site: Site) -> None:
    marker = site.certificates.parent / "marker"
    process = site.watch("on", f"--reload=test -e {marker}")
    await until(lambda: f"test -e {marker} ended with 1" in process.log.read_text())
    failures = process.log.read_text().count("did not take its new files")
    await until(lambda: process.log.read_text().count("did not take its new files") > failures)
    marker.touch()
    assert process.stop() == 0


def test_a_reload_that_fails_ends_the_command_with_its_reason(site: Site) -> None:
    command = ("broker-files", *site.arguments, "--reload=/nowhere/reload now")
    done = voltwire(*command, **site.settings("on"))
    assert done.returncode == 1
    assert "/nowhere/reload now cannot be run: No such file or directory" in done.stderr


def test_an_open_listener_for_others_is_refused(site: Site) -> None:
    done = voltwire("broker-files", str(site.files), "--listener=1883", AUTH="off")
    assert done.returncode == 2
    assert "Authentication is off" in done.stderr
    assert not site.files.exists()


@pytest.mark.parametrize("address", ["x", "1883:x", "70000", "::1", "0"])
def test_an_address_that_is_none_is_named(site: Site, address: str) -> None:
    done = voltwire("broker-files", str(site.files), f"--listener={address}")
    assert done.returncode == 2
    assert "ADDRESS" in done.stderr
