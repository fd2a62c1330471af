"""Everything in one command: the embedded parts as children, the roles in one loop."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Generic, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

import psutil
import structlog
import typer
from pydantic import SecretStr

from api.run import run as run_api
from cli.main import Role, run_roles
from ingestor.run import run as run_ingest
from runtime.errors import StartError
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.postgres.server import embedded_postgres
from runtime.postgres.user import ends_with_us
from runtime.settings import MqttAddress, Settings, reachable
from runtime.signals import unless_stopped
from scheduler.run import run as run_schedule
from schema.database import DATABASE_ERRORS
from schema.migrate import migrate

BROKER_READY_S_MAX = 15
BROKER_STOP_S_MAX = 1
STOP_S_MAX = 8.0  # For the roles and PostgreSQL together; a command ends within ten seconds.
LAST_STOP_S_MIN = 0.5
KEEP_EVERY_S = 0.5

T = TypeVar("T")

log = structlog.get_logger()


class Child(Generic[T]):
    """An embedded part in a process of its own, started again when it has ended by itself."""

    def __init__(
        self,
        name: str,
        start: Callable[[], AbstractContextManager[T]],
        runs: Callable[[T], bool],
    ) -> None:
        self._name, self._start, self._runs = name, start, runs

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.value = self._stack.enter_context(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self) -> None:
        """In the main thread and without mercy for the loop: nothing works without this part."""
        if not self._runs(self.value):
            log.error("An embedded part has ended by itself and is started again.", part=self._name)
            self.__exit__()
            self.__enter__()


def up(settings: Settings, *, demo: bool) -> None:
    """Run until stopped. Raises StartError if a port or the data folder is in use."""
    require_free(settings.http_host, settings.http_port, "HTTP_PORT")
    if settings.mqtt_url is None:
        require_free(settings.mqtt_host, settings.mqtt_port, "MQTT_PORT")
    children: list[Child[Any]] = []
    rest_s = STOP_S_MAX
    with ExitStack() as parts:
        if settings.database_url is None:
            data_dir = settings.data_dir
            database = Child(
                "PostgreSQL",
                lambda: embedded_postgres(data_dir, stop_s_max=lambda: rest_s),
                _listens,
            )
            children.append(parts.enter_context(database))
            settings = settings.model_copy(update={"database_url": SecretStr(database.value)})
        if settings.mqtt_url is None:
            address = settings.mqtt
            broker = Child("broker", lambda: _broker(address), lambda child: child.poll() is None)
            children.append(parts.enter_context(broker))
        try:
            asyncio.run(migrate(settings.dsn, max_age_days=settings.max_event_age_days))
        except DATABASE_ERRORS as error:
            raise StartError(
                f"The database cannot be used: {error}. Check DATABASE_URL and PGPASSWORD."
            ) from error
        roles: list[Role] = [run_ingest, run_api, run_schedule, _announce, _keeper(children)]
        if demo:
            from cli.demo import run as run_demo  # noqa: PLC0415

            roles.append(run_demo)
        spent_s = run_roles(settings, Health(("broker", "database", "schema", "storing")), *roles)
        rest_s = max(LAST_STOP_S_MIN, STOP_S_MAX - spent_s)


def _keeper(children: Sequence[Child[Any]]) -> Role:
    async def keep(_: Settings, stop: asyncio.Event, __: Health, ___: Metrics) -> None:
        while await unless_stopped(stop, asyncio.sleep(KEEP_EVERY_S)):
            for child in children:
                child.keep()

    return keep


def _listens(dsn: str) -> bool:
    """Whether a server holds the socket; a connection that is refused or queued says so."""
    folder = parse_qs(urlsplit(dsn).query)["host"][0]
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        return probe.connect_ex(f"{folder}/.s.PGSQL.5432") not in {errno.ECONNREFUSED, errno.ENOENT}


def require_free(host: str, port: int, setting: str) -> None:
    """Raises StartError naming the process that listens there already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(
                    f"{setting}: {host}:{port} cannot be used ({error.strerror})."
                ) from error
            raise StartError(
                f"{host}:{port} is in use by {_listener(port)}: stop it, or change {setting}."
            ) from error


def _listener(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr
            if connection.status == psutil.CONN_LISTEN and here and here.port == port:
                return f"process {connection.pid}" if connection.pid else "another process"
    return "another process"


@contextmanager
def _broker(address: MqttAddress) -> Iterator["subprocess.Popen[bytes]"]:
    """The embedded broker in a process of its own: its work does not delay ours."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "broker"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509  # No thread was started yet.
    )
    try:
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
            raise StartError("The embedded broker did not start; the lines above say why.")
        with suppress(OSError), socket.create_connection((address.host, address.port), timeout=1):
            return
        time.sleep(0.02)
    raise StartError(f"The embedded broker does not listen after {BROKER_READY_S_MAX} s.")


async def _announce(settings: Settings, stop: asyncio.Event, health: Health, _: Metrics) -> None:
    """Say where everything is, once it works."""
    while not health.ok and not stop.is_set():  # noqa: ASYNC110  # Once, at start.
        await asyncio.sleep(0.02)
    if stop.is_set():
        return
    typer.echo(_addresses(settings))


def _addresses(settings: Settings) -> str:
    base = f"http://{_shown(settings.http_host)}:{settings.http_port}"
    lines = [
        "Voltwire is ready.",
        f"  API       {base}/health",
        f"  Reference {base}/docs",
        f"  MQTT      {settings.mqtt}   publish to devices/<device_id>/telemetry",
    ]
    if settings.mqtt_url is None:
        lines.append(
            "  The embedded broker speaks MQTT 3.1.1 and keeps sessions and retained messages in"
            " memory only;\n  for production set MQTT_URL to a broker with persistence."
        )
    return "\n".join(lines)


def _shown(host: str) -> str:
    host = reachable(host)
    return f"[{host}]" if ":" in host else host
