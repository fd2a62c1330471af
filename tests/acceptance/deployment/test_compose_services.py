"""The roles with the commands, settings and probes of docker-compose.yml, without Docker.

Hosts become loopback addresses, ports become free ones. PostgreSQL and Mosquitto are real, and
PostgreSQL requires the password here as well.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiomqtt
import asyncpg
import pytest
import yaml

from runtime.postgres.server import embedded_postgres
from tests.support.brokers.mosquitto import Mosquitto, mosquitto
from tests.support.http import plain_http
from tests.support.processes.services import ROOT, Process, free_port, temporary_folder

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
LONG_RUNNING = ("ingest", "api", "schedule")
READY_S_MAX, STOP_S_MAX, VISIBLE_S_MAX = 90, 30, 30
# The .env file that the documentation of the second service that Voltwire replaces gives.
DOT_ENV = """
DATABASE_URL=postgresql+asyncpg://postgres:postgres@localhost:5432/telemetry
POSTGRES_USER=postgres
POSTGRES_PASSWORD=postgres
POSTGRES_DB=telemetry
"""
SEED = dict(line.split("=", 1) for line in DOT_ENV.split())
AWKWARD = {
    "POSTGRES_USER": "an owner@home:1",
    "POSTGRES_PASSWORD": "p@ss:w/r$d#%?&{x}'\"",
    "POSTGRES_DB": "tele/metry?x=1",
}
NOT_IN_EVERY_BUILD = ("wal_compression",)  # The embedded PostgreSQL comes without lz4.
VARIABLE = re.compile(r"(?P<escaped>\$\$)|\$\{(?P<name>\w+):(?P<kind>[-?])(?P<text>[^}]*)\}")


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Interpolate like Docker Compose, for the forms that our file uses. Raises ValueError."""

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        found = variables.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise ValueError(match["text"])
        return found or match["text"]

    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    return VARIABLE.sub(replace, value) if isinstance(value, str) else value


def server_options() -> dict[str, str]:
    """The flags of the `postgres` service."""
    program, *flags = interpolated(COMPOSE["services"]["postgres"]["command"], {})
    assert program == "postgres"
    options = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    return {name: value for name, value in options.items() if name not in NOT_IN_EVERY_BUILD}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with (
        temporary_folder() as folder,
        embedded_postgres(folder / "data", options=server_options()) as dsn,
    ):
        yield dsn


def require_password(access: Path, database: str) -> None:
    access.write_text(f'local "{database}" all scram-sha-256\n{access.read_text()}')


async def make_database(server: str, variables: Mapping[str, str]) -> None:
    """Do what the PostgreSQL image does with these variables, and require the password."""
    connection = await asyncpg.connect(server)
    try:
        quoted = "select format($1, variadic $2::text[])"
        user, name = variables["POSTGRES_USER"], variables["POSTGRES_DB"]
        if not await connection.fetchval("select 1 from pg_roles where rolname = $1", user):
            await connection.execute(
                await connection.fetchval(quoted, "create role %I login superuser", [user])
            )
        password = [user, variables["POSTGRES_PASSWORD"]]
        await connection.execute(
            await connection.fetchval(quoted, "alter role %I password %L", password)
        )
        await connection.execute(
            await connection.fetchval(quoted, "create database %I owner %I", [name, user])
        )
        require_password(Path(await connection.fetchval("show hba_file")), name)
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


class Service:
    """One of ours: its environment and its probe at a free port."""

    def __init__(self, name: str, variables: Mapping[str, str], server: str, broker: int) -> None:
        self.name, self.port = name, free_port()
        self.definition = interpolated(COMPOSE["services"][name], variables)
        sockets = parse_qs(urlsplit(server).query)["host"][0]
        environment = self.definition["environment"]
        url, mqtt_url = environment["DATABASE_URL"], environment["MQTT_URL"]
        self.environment = {
            **environment,
            "DATABASE_URL": url.replace("//postgres:5432", f"//?host={quote(sockets)}&port=5432"),
            "MQTT_URL": mqtt_url.replace("//mosquitto:1883", f"//127.0.0.1:{broker}"),
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self.port),
            "STATUS_PORT": str(self.port),
        }

    def process(self, folder: Path) -> Process:
        return Process(folder, *self.definition["command"], settings=self.environment)

    def probe(self) -> int:
        """The exit code of the health check."""
        kind, program, *arguments = self.definition["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        here = [argument.replace("8000", str(self.port)) for argument in arguments]
        command = [sys.executable, *here]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode

    def wait_until_healthy(self, process: Process) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while self.probe() != 0:
            assert time.monotonic() < deadline, process.log.read_text()
            assert process.process.poll() is None, process.log.read_text()


def migrated(service: Service, folder: Path) -> None:
    with service.process(folder) as process:
        assert process.process.wait(READY_S_MAX) == 0, process.log.read_text()


async def publish_and_receive_presence(broker: Mosquitto, event: Mapping[str, Any]) -> str:
    async with asyncio.timeout(VISIBLE_S_MAX), aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("presence/deviceA", qos=1)
        await client.publish("devices/deviceA/telemetry", json.dumps(event), qos=1)
        message = await anext(client.messages)
    assert isinstance(message.payload, bytes)
    return str(json.loads(message.payload)["state"])


def answer_with_an_event(url: str) -> Any:
    deadline = time.monotonic() + VISIBLE_S_MAX
    while not (events := plain_http.get(url).raise_for_status().json()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return events


def test_the_services_work_together_with_the_env_file_of_the_older_service(
    server: str,
) -> None:
    asyncio.run(make_database(server, SEED))
    with mosquitto() as broker, temporary_folder() as folder, ExitStack() as running:
        migrated(Service("migrate", SEED, server, broker.port), folder)
        services = [Service(name, SEED, server, broker.port) for name in LONG_RUNNING]
        assert all(service.probe() == 1 for service in services)
        processes = [running.enter_context(service.process(folder)) for service in services]
        for service, process in zip(services, processes, strict=True):
            service.wait_until_healthy(process)

        event = {"event_id": "e001", "timestamp": "2025-01-15T10:00:00Z", "metrics": {"temp": 34.2}}
        assert asyncio.run(publish_and_receive_presence(broker, event)) == "online"
        api = services[LONG_RUNNING.index("api")]
        url = f"http://127.0.0.1:{api.port}/v1/devices/deviceA/events"
        assert [found["event_id"] for found in answer_with_an_event(url)] == ["e001"]

        for process in processes:
            began = time.monotonic()
            assert process.stop() == 0, process.log.read_text()
            assert time.monotonic() - began < STOP_S_MAX


def test_a_name_or_password_may_hold_any_character(server: str) -> None:
    asyncio.run(make_database(server, AWKWARD))
    service = Service("migrate", AWKWARD, server, broker=1)
    with temporary_folder() as folder:
        migrated(service, folder)
        service.environment["PGPASSWORD"] = "another"
        with service.process(folder) as process:
            assert process.process.wait(READY_S_MAX) == 1


def test_nothing_starts_without_a_password() -> None:
    with pytest.raises(ValueError, match="add the line POSTGRES_PASSWORD="):
        interpolated(COMPOSE, {"POSTGRES_USER": "postgres"})
