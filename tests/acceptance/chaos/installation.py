"""An installation for fault tests: PostgreSQL, Mosquitto and our roles, each in a separate process."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.chaos.logins import CHECKS, PUBLISHER, Logins, logins_of
from tests.acceptance.chaos.seeds import LONG
from tests.support.brokers.login import publish
from tests.support.brokers.mosquitto import Mosquitto, mosquitto
from tests.support.database.postgres_server import PostgresServer, postgres_server
from tests.support.http import plain_http
from tests.support.ledger.ledger import Ledger, Report, StoredRow, compare
from tests.support.network.proxy import Proxy, proxy
from tests.support.processes.services import START_S_MAX, Process, free_port, temporary_folder

ROLES = ("ingest", "api", "schedule")
HEALTHY_S_MAX = 90.0
DRAIN_S_MAX = 60.0
HTTP_S_MAX = 5.0
NO_KEEP_ALIVE = httpx.Limits(max_keepalive_connections=0)  # Roles end and start again at any time.
QUIET_S = 1.0  # Nothing new is stored for this long: the broker's queue is empty.
FLOW = ("received", "stored", "duplicate", "rejected", "dropped", "in_flight")
RSS_GROWTH_BYTES_MAX = 30 * 1024 * 1024
WARM_UP_EVENTS = 6000 if LONG else 2500
HUGE_RATE = "1000000"
MAX_EVENT_AGE_DAYS = "60"  # Fewer partitions make a cluster ready sooner.


class Installation:
    """PostgreSQL, Mosquitto and our roles, each in a separate process on free ports of loopback.

    A role is known by its name; `add` starts more than the first three. Faults act on `postgres` and `broker`
    directly, or on the links to them through `postgres_proxy` and `broker_proxy`, which only our roles use:
    the load and the checks connect directly. `http` sends requests to the API, with the key of the checks.
    """

    def __init__(
        self,
        folder: Path,
        postgres: PostgresServer,
        broker: Mosquitto,
        *,
        postgres_proxy: Proxy | None = None,
        broker_proxy: Proxy | None = None,
        settings: Mapping[str, str] = {},
    ) -> None:
        self.postgres, self.broker = postgres, broker
        self.postgres_proxy, self.broker_proxy = postgres_proxy, broker_proxy
        self.processes: dict[str, Process] = {}
        self.logins: Logins = logins_of(postgres.dsn, broker)
        self.http = plain_http.Client(timeout=HTTP_S_MAX, limits=NO_KEEP_ALIVE)
        self._folder = folder
        self._urls: dict[str, str] = {}
        self._base_rss: dict[str, int] = {}
        self.settings: dict[str, str] = {
            "DATABASE_URL": postgres.connect_through((postgres_proxy or postgres).port),
            "MQTT_URL": f"mqtt://{self.logins.user_info}127.0.0.1:{(broker_proxy or broker).port}",
            "RATE_LIMIT_REQUESTS": HUGE_RATE,
            "MAX_EVENT_AGE_DAYS": MAX_EVENT_AGE_DAYS,
            **self.logins.settings,
            **settings,
        }

    @property
    def url(self) -> str:
        """The address of the API, or of `up`."""
        return str(self.http.base_url).rstrip("/")

    def prepare(self) -> None:
        """Migrate over a direct connection, without a proxy; then make the credentials of the keys."""
        settings = self.settings | {"DATABASE_URL": self.postgres.dsn}
        with Process(self._folder, "migrate", settings=settings) as process:
            assert process.process.wait(HEALTHY_S_MAX) == 0, process.log.read_text()
        self.logins.prepare()
        self.http.headers.update(self.logins.headers(CHECKS))

    def add(
        self,
        name: str,
        command: str | None = None,
        *,
        settings: Mapping[str, str] = {},
        program: Sequence[str] = ("-m", "cli"),
    ) -> None:
        """Start one more process under a new name; its role is `command`, or else the name."""
        folder = self._folder / name
        folder.mkdir()
        port = str(free_port())
        serves = name in {"api", "up"}
        ports = {"HTTP_PORT" if serves else "STATUS_PORT": port}
        self._urls[name] = f"http://127.0.0.1:{port}"
        if serves:
            self.http.base_url = self._urls[name]
        self.processes[name] = Process(
            folder,
            command or name,
            settings={**self.settings, **ports, **settings},
            program=program,
        )
        self.start(name)

    def start(self, name: str, *, program: Sequence[str] = ("-m", "cli")) -> None:
        """Start a role again without waiting for it; `program` may contain a fail point."""
        process = self.processes[name]
        process.program = program
        process.start()

    def kill(self, name: str) -> None:
        """Send SIGKILL, and wait for the end."""
        self.processes[name].kill()

    def terminate(self, name: str) -> int:
        """Send SIGTERM and return the exit code, which must come in time."""
        return self.processes[name].stop()

    def wait_for_end(self, name: str, within_s: float) -> int:
        """Wait for a role that ends by itself; return its exit code, negative for a signal."""
        return self.processes[name].process.wait(within_s)

    def remove(self, name: str) -> None:
        """End a role and remove it: it need not be healthy any more."""
        process = self.processes.pop(name)
        del self._urls[name]
        process.__exit__()

    def log(self, name: str) -> str:
        """Everything that a role has logged so far, including earlier processes."""
        return self.processes[name].log.read_text()

    def logged(self, name: str, text: str) -> list[dict[str, Any]]:
        """The log entries of a role whose sentence contains `text`."""
        lines = [line for line in self.log(name).splitlines() if line.startswith("{")]
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines if text in line]
        return [entry for entry in entries if text in str(entry.get("event"))]

    def health(self, name: str) -> dict[str, Any] | None:
        """The document of /health with its HTTP status as `code`; None without a response."""
        try:
            response = self.http.get(f"{self._urls[name]}/health")
        except httpx.TransportError:
            return None
        return {**response.json(), "code": response.status_code}

    def metrics(self, name: str) -> str:
        """The text of /metrics."""
        return self.http.get(f"{self._urls[name]}/metrics").raise_for_status().text

    def flow(self, name: str) -> list[dict[str, float]]:
        """The event counts of a role per door: received, and each outcome."""
        doors: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for family in text_string_to_metric_families(self.metrics(name)):
            kind = family.name.removeprefix("voltwire_events_")
            if kind in FLOW:
                for sample in family.samples:
                    doors[sample.labels["door"]][kind] += sample.value
        return [dict(each) for each in doors.values()]

    def require_conservation(self, *, settled: bool) -> None:
        """Check in every process: received = stored + duplicate + rejected + dropped + in flight."""
        for name in self.processes:
            for flow in self.flow(name):
                assert flow["received"] == sum(flow[kind] for kind in FLOW[1:]), (name, flow)
                assert not settled or flow["in_flight"] == 0, (name, flow)

    def is_healthy(self) -> bool:
        """Every process runs and answers 200 at /health."""
        return all(
            process.process.poll() is None and (self.health(name) or {}).get("code") == 200
            for name, process in self.processes.items()
        )

    def until_healthy(self, within_s: float = HEALTHY_S_MAX) -> float:
        """Wait until all roles are healthy; return the seconds it took."""
        began = time.monotonic()
        while not self.is_healthy():
            if time.monotonic() - began > within_s:
                found = {name: self.health(name) for name in self.processes}
                logs = "\n".join(f"{name}:\n{self.log(name)[-1500:]}" for name in self.processes)
                raise AssertionError(f"Not healthy after {within_s} s: {found}\n{logs}")
            time.sleep(0.1)
        return time.monotonic() - began

    def publish(
        self, messages: Sequence[tuple[str, str | bytes]], *, within_s: float = HEALTHY_S_MAX
    ) -> None:
        """Directly to the broker; see tests/support/brokers/login.py."""
        publish(self.broker.port, messages, login=self.logins.key(PUBLISHER), within_s=within_s)

    def open_client(self, key: str) -> httpx.Client:
        """A client of the API with one of the keys, which keeps its connections open."""
        return plain_http.Client(base_url=self.url, headers=self.logins.headers(key))

    def sql(self, query: str, *arguments: Any) -> list[Any]:
        """The rows of a query (or of `insert … returning`), over a direct connection."""
        return asyncio.run(_fetch(self.postgres.dsn, query, arguments))

    def rows(self, prefix: str) -> list[StoredRow]:
        """Every stored event of the devices whose names begin with `prefix`."""
        found = self.sql(
            "select device_id, event_id, (metrics->>'value')::float8 from event"
            " join device using (device_no) where starts_with(device_id, $1)",
            prefix,
        )
        return [StoredRow(*row) for row in found]

    def dead_letters(self, prefix: str) -> list[StoredRow]:
        """Every dead letter of these devices, with the event id that PayloadComposer puts into poison."""
        found = self.sql(
            "select device_id, substring(convert_from(payload, 'UTF8') from 'event_id\": \"([^\"]+)'),"
            " substring(convert_from(payload, 'UTF8') from 'value\": \"([0-9]+)')::float8"
            " from rejected where starts_with(device_id, $1)",
            prefix,
        )
        return [StoredRow(*row) for row in found]

    def rss(self) -> dict[str, int]:
        """Resident bytes per process."""
        return {
            name: psutil.Process(process.process.pid).memory_info().rss
            for name, process in self.processes.items()
        }

    def warm_up(self) -> None:
        """Load until caches and pools have their final size, the reference for later memory checks.

        Events go through the API, and in one burst through the broker, like the backlog of a role that was
        down.
        """
        self.until_healthy(START_S_MAX)
        ledger = Ledger(f"warm-{uuid4().hex[:6]}-")
        events = [ledger.attempt(f"d{n % 20}") for n in range(WARM_UP_EVENTS)]
        bodies = [
            {"device_id": key[0], "event_id": key[1], "metrics": {"value": value}}
            for key, value in events
        ]
        for start in range(0, 2000, 500):
            batch = bodies[start : start + 500]
            self.http.post("/v1/events/batch", json=batch, timeout=30).raise_for_status()
        self.publish(
            [(f"devices/{body['device_id']}/telemetry", json.dumps(body)) for body in bodies]
        )
        ledger.accept(*(key for key, _ in events))
        self.drain(ledger).require_clean()
        self._base_rss = self.rss()

    def require_flat_memory(self) -> None:
        """Check that no role has grown by 30 MiB since the warm-up, or since its first check if it is new."""
        for name, now in self.rss().items():
            base = self._base_rss.setdefault(name, now)
            grown = f"{name} grew from {base >> 20} to {now >> 20} MiB"
            assert now - base < RSS_GROWTH_BYTES_MAX, grown

    def drain(self, ledger: Ledger, within_s: float = DRAIN_S_MAX) -> Report:
        """Wait until everything accepted is stored and nothing more arrives; then compare.

        1. Wait until all roles are healthy. 2. Publish one more event, which follows the others through the
        broker's ordered queue. 3. Wait until all accepted events are stored and the number of rows is stable.
        Events that are missing when the time is up count as lost, even if they would be stored later.
        """
        began = time.monotonic()
        self.until_healthy(within_s)
        key, value = ledger.attempt("last")
        body = json.dumps({"event_id": key[1], "metrics": {"value": value}})
        self.publish([(f"devices/{key[0]}/telemetry", body)])
        ledger.accept(key)
        count, since = -1, began
        while time.monotonic() - began < within_s:
            report = compare(ledger, self.rows(ledger.prefix))
            if report.rows != count:
                count, since = report.rows, time.monotonic()
            elif not report.lost and time.monotonic() - since > QUIET_S:
                break
            time.sleep(0.2)
        return compare(ledger, self.rows(ledger.prefix))

    def require_same_sums(self, ledger: Ledger, *, days: int = 2) -> None:
        """Check that count and sum of the API's aggregate equal those of SQL and of the ledger."""
        rows, values = self.rows(ledger.prefix), ledger.attempted
        stored = {(row.device_id, row.event_id) for row in rows}
        in_sql = (len(rows), sum(row.value or 0 for row in rows))
        in_ledger = (len(stored), float(sum(values[key] for key in stored)))
        assert (self._aggregate(ledger.devices, days), in_sql) == (in_ledger, in_ledger)

    def _aggregate(self, devices: Sequence[str], days: int) -> tuple[int, float]:
        now = datetime.now(UTC)
        parameters = {
            "metric": "value",
            "device_id": devices,
            "from_time": (now - timedelta(days=days)).isoformat(),
            "to_time": (now + timedelta(days=days)).isoformat(),
            "interval": "24h",
        }
        response = self.http.get("/v1/metrics/aggregate", params=parameters, timeout=30)
        buckets = response.raise_for_status().json()
        return sum(each["count"] for each in buckets), sum(each["sum"] for each in buckets)

    def close(self) -> None:
        for process in self.processes.values():
            with suppress(AssertionError, psutil.Error):
                process.__exit__()
        self.http.close()


@contextmanager
def install(
    *,
    roles: Sequence[str] = ROLES,
    settings: Mapping[str, str] = {},
    broker_options: Mapping[str, str] = {},
    postgres_options: Mapping[str, str] = {},
    with_postgres_proxy: bool = False,
    with_broker_proxy: bool = False,
    warm: bool = True,
) -> Iterator[Installation]:
    """Start an installation, warmed up unless `warm` is false; everything in it ends with the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        postgres = stack.enter_context(postgres_server(postgres_options))
        broker = stack.enter_context(mosquitto(broker_options))
        installation = Installation(
            folder,
            postgres,
            broker,
            postgres_proxy=(
                stack.enter_context(proxy(postgres.port)) if with_postgres_proxy else None
            ),
            broker_proxy=stack.enter_context(proxy(broker.port)) if with_broker_proxy else None,
            settings=settings,
        )
        stack.callback(installation.close)
        installation.prepare()
        for role in roles:
            installation.add(role)
        installation.until_healthy(START_S_MAX)
        if warm:
            installation.warm_up()
        yield installation


async def _fetch(dsn: str, query: str, arguments: Sequence[Any]) -> list[Any]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        connection.terminate()
