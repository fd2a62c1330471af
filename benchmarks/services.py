"""What the benchmarks start: PostgreSQL with the product's settings, our roles, load generators."""

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import asyncpg
import httpx
import psutil
import structlog

from runtime.postgres.server import embedded_postgres
from runtime.settings import Settings
from schema.migrate import migrate
from tests.support.brokers.mosquitto import Mosquitto
from tests.support.processes.services import ROOT, Process, free_port, temporary_folder

BUILD_S_MAX = 300
RESULT_S_MAX = 900
# The events carry times of yesterday, so that none is in the future; the rollups must take them as live.
NOTHING_CLOSED = (
    "update rollup_state set closing = closing - interval '2 d', closed = closed - interval '2 d'"
)
SERVER = "postgres"  # The process name of the embedded PostgreSQL.


class DatabaseServer:
    """An embedded PostgreSQL with all partitions of the accepted window and no data."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, settings
        self._stack = ExitStack()

    def start(self) -> None:
        self.dsn = self._stack.enter_context(
            embedded_postgres(self._folder / "data", options=self._settings)
        )

    def stop(self) -> None:
        """Stop cleanly, so that the next start needs no recovery. The address stays the same."""
        self._stack.close()

    def execute(self, sql: str, *arguments: object, timeout_s: float = 60) -> None:
        self._run(lambda connection: connection.execute(sql, *arguments, timeout=timeout_s))

    def value(self, sql: str, *arguments: object, timeout_s: float = 600) -> Any:
        return self._run(lambda connection: connection.fetchval(sql, *arguments, timeout=timeout_s))

    def rows(self, sql: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = self._run(lambda connection: connection.fetch(sql))
        return found

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Lock a table against reads and writes during the block."""
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.dsn))
            runner.run(connection.execute(f"begin; lock table {table} in access exclusive mode"))
            yield
            runner.run(connection.execute("rollback"))
            runner.run(connection.close())

    def _run(self, work: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(run())


@contextmanager
def database(settings: Mapping[str, str] = {}) -> Iterator[DatabaseServer]:
    """`settings` are the settings of the server that differ from the shipped ones."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with temporary_folder() as folder:
        server = DatabaseServer(folder, settings)
        server.start()
        try:
            max_age_days = Settings.model_fields["max_event_age_days"].default
            asyncio.run(migrate(server.dsn, max_age_days=max_age_days))
            server.execute(NOTHING_CLOSED)
            yield server
        finally:
            server.stop()


@dataclass(frozen=True)
class Counts:
    """Events of the MQTT door, from /metrics."""

    stored: int
    duplicate: int
    rejected: int
    dropped: int
    in_flight: int

    @property
    def settled(self) -> int:
        """Events with a verdict. A dropped one is a second copy of an event that still waits."""
        return self.stored + self.duplicate + self.rejected


class RoleProcess:
    """One `voltwire` process with an HTTP listener."""

    def __init__(self, process: Process, port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, timeout=10)

    def wait_until_ready(self) -> None:
        self.process.wait_until_ok(f"{self.url}/health")

    def post(self, path: str, body: object) -> None:
        self._client.post(path, json=body).raise_for_status()

    def counts(self) -> Counts:
        """Read the counts. Raises httpx.TransportError while the role does not listen yet."""
        text = self._client.get("/metrics").text

        def total(name: str) -> int:
            found = re.findall(rf'(?m)^voltwire_events_{name}{{door="mqtt".*}} (\S+)$', text)
            return int(sum(map(float, found)))

        return Counts(
            total("stored_total"),
            total("duplicate_total"),
            total("rejected_total"),
            total("dropped_total"),
            total("in_flight"),
        )

    @property
    def pid(self) -> int:
        return self.process.process.pid


@contextmanager
def role(
    name: str,
    server: DatabaseServer,
    broker: Mosquitto | None = None,
    *,
    workers: int = 1,
    source: Path = ROOT,
) -> Iterator[RoleProcess]:
    """Start `voltwire ingest`, `voltwire api` or `voltwire schedule`, and wait until it is ready.

    `source`: the checkout whose code runs.
    """
    port = free_port()
    settings = {
        "PYTHONPATH": str(source),
        "DATABASE_URL": server.dsn,
        "HTTP_PORT" if name == "api" else "STATUS_PORT": str(port),
        "LOG_LEVEL": "warning",
        "RATE_LIMIT_REQUESTS": "1000000",
    }
    if broker is not None:
        settings["MQTT_URL"] = f"mqtt://127.0.0.1:{broker.port}"
    command = (name,) if workers == 1 else (name, "--workers", str(workers))
    with temporary_folder() as folder, Process(folder, *command, settings=settings) as process:
        running = RoleProcess(process, port)
        running.wait_until_ready()
        yield running


class LoadPlan(Protocol):
    """The work of a load generator."""

    def as_json(self) -> str: ...


class LoadProcess:
    """A load generator in a separate process; it has built its load and waits for `start`."""

    def __init__(self, module: str, plan: LoadPlan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.load.{module}", plan.as_json()],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.ready = self._line(BUILD_S_MAX)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self) -> None:
        """Start the load and its clock."""
        self.report_settled(0)

    def report_settled(self, settled: int) -> None:
        """Report how many messages are settled in the database."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It has sent everything.
            self._process.stdin.write(f"{settled}\n")
            self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        return self._line(RESULT_S_MAX)

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with _ended_after(self._process, seconds):
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The load ended without a result; the lines above say why.")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def _ended_after(process: "subprocess.Popen[str]", seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def role_cpu_seconds(role: RoleProcess) -> float:
    """The CPU time of a role and its workers."""
    children = psutil.Process(role.pid).children()
    return cpu_seconds(role.pid) + sum(cpu_seconds(child.pid) for child in children)


def server_cpu_seconds() -> float:
    """The CPU time of the embedded PostgreSQL, without processes that have ended."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name() == SERVER:
                total += cpu_seconds(process.pid)
    return total


def python_mib(pid: int) -> float:
    """Resident memory of a process and its descendants without PostgreSQL."""
    owner = psutil.Process(pid)
    total = 0
    for process in (owner, *owner.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if process.name() != SERVER:
                total += process.memory_info().rss
    return total / 2**20


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not within {seconds:g} s: {what}.")
        time.sleep(0.02)
