"""Keeps the files of Mosquitto current, and makes Mosquitto read them."""

import asyncio
import shlex
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from broker.mosquitto.files import NOTHING, RELOAD, BrokerFiles, ChangedFiles
from runtime.errors import StartError
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import unless_stopped
from schema.access.broker_logins import BrokerTables, follow_broker_tables

CHECK = "files"
LOOK_EVERY_S = 30.0  # At the certificates, while no table is followed.
WRITE_EVERY_S = 1.0  # At most: a thousand changes at once cost one file and one reload.
RETRY_S = 5.0
COMMAND_S_MAX = 30.0
SHOWN_CHARS_MAX = 300

log = structlog.get_logger()


@dataclass(slots=True)
class Keeper:
    """A role. `password` is that of our own sessions; without one authentication is off.

    `reload` and `restart` are commands that are run after a change of logins, or of listeners.
    """

    files: BrokerFiles
    dsn: str
    password: str | None
    reload: str | None = None
    restart: str | None = None
    # At start, too: an earlier process may have ended between writing and reloading.
    _pending: ChangedFiles = RELOAD
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _certificates: object = None

    async def run(
        self, settings: Settings, stop: asyncio.Event, health: Health, _: Metrics
    ) -> None:
        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(settings.instance, health))
                group.create_task(self._apply_changes(health))

        await unless_stopped(stop, work())

    async def apply(self, written: ChangedFiles) -> str | None:
        """Run the command that Mosquitto needs after this. Returns what went wrong."""
        command = self.restart or self.reload if written.listeners else self.reload
        if command is None or written == NOTHING:
            return None
        return await _run(command)

    async def _keep(self, instance: str, health: Health) -> None:
        async with aclosing(self._tables(instance)) as found:
            async for tables in found:
                await self._write_in_the_end(instance, tables, health)
                await asyncio.sleep(WRITE_EVERY_S)

    async def _tables(self, instance: str) -> AsyncGenerator[BrokerTables | None, None]:
        if self.password is None:
            while True:
                yield None
                await asyncio.sleep(LOOK_EVERY_S)
        name = f"{instance} broker-files"
        async with aclosing(follow_broker_tables(self.dsn, name, instance)) as followed:
            async for tables in followed:
                yield tables

    async def _write_in_the_end(
        self, instance: str, tables: BrokerTables | None, health: Health
    ) -> None:
        written: ChangedFiles | None = None
        while written is None:
            try:
                written = await asyncio.to_thread(self.write, instance, tables)
            except (OSError, StartError) as error:
                reason = str(error)
                log.error("The files of the broker cannot be written; retrying.", reason=reason)  # noqa: TRY400
                health.report(CHECK, ok=False, detail=f"not written: {reason}")
                self._pending |= RELOAD  # Some of the files may be new.
                await asyncio.sleep(RETRY_S)
        if written != NOTHING:
            log.info("The files of the broker were written.", listeners=written.listeners)
        self._pending |= written
        if self._pending != NOTHING:
            self._changed.set()

    async def _apply_changes(self, health: Health) -> None:
        while True:
            await self._changed.wait()
            written, self._pending = self._pending, NOTHING
            trouble = await self.apply(written)
            if trouble is None:
                if self._pending == NOTHING:
                    self._changed.clear()
                health.report(CHECK, ok=True, detail="current")
                continue
            log.error("The broker did not take its new files; retrying.", reason=trouble)
            health.report(CHECK, ok=False, detail=trouble)
            self._pending |= written
            await asyncio.sleep(RETRY_S)

    def write(self, instance: str, tables: BrokerTables | None) -> ChangedFiles:
        """Raises OSError, StartError."""
        if tables is None or self.password is None:
            written = self.files.write_open()
        else:
            written = self.files.write_closed(instance, self.password, tables)
        return written | self._renewed()

    def _renewed(self) -> ChangedFiles:
        """Whether certificates changed since the last look: Mosquitto reads them at a reload."""
        certificates = self.files.listeners.certificates
        before, self._certificates = self._certificates, certificates and certificates.stamp()
        return ChangedFiles(listeners=False, logins=before not in {None, self._certificates})


async def _run(command: str) -> str | None:
    """Returns what went wrong, in one sentence."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return f"{command} cannot be run: {error.strerror}"
    try:
        async with asyncio.timeout(COMMAND_S_MAX):
            output, _ = await process.communicate()
    except TimeoutError:
        return f"{command} did not end within {COMMAND_S_MAX:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    text = " ".join(output.decode(errors="replace").split())[-SHOWN_CHARS_MAX:]
    return f"{command} ended with {process.returncode}" + (f": {text}" if text else "")
