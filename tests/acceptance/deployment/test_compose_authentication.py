"""The services of docker-compose.yml with `AUTH=on` in .env, and nothing else: without Docker.

Folders of the containers become folders of the test, ports free ones, group 1883 that of Mosquitto here.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from schema.access.audit import COMMAND
from schema.access.credentials import create
from schema.access.secrets import CredentialKind
from tests.acceptance.deployment.test_compose_services import (
    COMPOSE,
    Service,
    interpolated,
    make_database,
    migrated,
    server,
)
from tests.support.brokers.guarded_mosquitto import connack
from tests.support.brokers.mosquitto import mosquitto_group
from tests.support.brokers.mosquitto_script import SCRIPT, MosquittoScript
from tests.support.brokers.mqtt import RawClient, connect_packet
from tests.support.processes.services import Process, free_port, temporary_folder

__all__ = ["server"]  # The fixture.

pytestmark = pytest.mark.timeout(300)
NOT_AUTHORIZED, WAIT_S_MAX = 5, 60
DOT_ENV = {
    "POSTGRES_PASSWORD": "p@ss",
    "POSTGRES_DB": "closed",
    "POSTGRES_USER": "voltwire",
    "AUTH": "on",
    "MAX_EVENT_AGE_DAYS": "100",  # Fewer partitions: the migration is faster.
}


class Containers:
    """Where the paths of the containers are in the test."""

    def __init__(self, folder: Path, dot_env: dict[str, str], server: str) -> None:
        self.port, self._tls_port = free_port(), free_port()
        self._folder, self._dot_env, self._server = folder, dot_env, server
        self._paths = {
            "/mosquitto/files": folder / "files",
            "/mosquitto/certificates": folder / "certificates",
            "/var/lib/voltwire": folder / "data",
        }
        (folder / "certificates").mkdir()

    def service(self, name: str) -> Service:
        found = Service(name, self._dot_env, self._server, self.port)
        found.environment["DATA_DIR"] = self._placed(found.environment["DATA_DIR"])
        command = [self._placed(word) for word in found.definition["command"]]
        found.definition["command"] = (
            self._broker_files(command) if name == "broker-files" else command
        )
        return found

    def mosquitto(self) -> MosquittoScript:
        """With the command of the compose file."""
        script = MosquittoScript(
            self._folder, self._paths["/mosquitto/files"], self._paths["/mosquitto/certificates"]
        )
        own = {"/mosquitto/run.sh": SCRIPT, "/mosquitto/config/mosquitto.conf": script.command[2]}
        command = interpolated(COMPOSE["services"]["mosquitto"]["command"], self._dot_env)
        assert [
            own.get(word) or self._paths.get(word) or word for word in command
        ] == script.command
        return script

    def _placed(self, word: str) -> str:
        for path, here in self._paths.items():
            word = word.replace(path, str(here))
        return word

    def _broker_files(self, command: list[str]) -> list[str]:
        group = mosquitto_group()
        changed = {
            "--group=1883": [] if group is None else [f"--group={group}"],
            "--listener=1883": [f"--listener={self.port}", f"--tls-listener={self._tls_port}"],
        }
        assert changed.keys() <= set(command)
        return [part for word in command for part in changed.get(word, [word])]


@pytest.fixture
def containers(server: str) -> Iterator[Containers]:
    with temporary_folder() as folder:
        yield Containers(folder, DOT_ENV, server)


def broker_probe(port: int) -> int:
    """The exit code of the health check of Mosquitto."""
    kind, line = interpolated(COMPOSE["services"]["mosquitto"]["healthcheck"]["test"], DOT_ENV)
    assert kind == "CMD-SHELL"
    here = line.replace("127.0.0.1", f"127.0.0.1 -p {port}")
    return subprocess.run(["sh", "-c", here], stderr=subprocess.DEVNULL, check=False).returncode


async def registered_device(server: str) -> str:
    connection = await asyncpg.connect(
        server,
        database=DOT_ENV["POSTGRES_DB"],
        user=DOT_ENV["POSTGRES_USER"],
        password=DOT_ENV["POSTGRES_PASSWORD"],
    )
    try:
        secret = await create(connection, COMMAND, CredentialKind.DEVICE, "deviceA")
    finally:
        await connection.close()
    assert secret is not None
    return secret


async def send_and_wait_for_the_receipt(port: int, secret: str) -> str:
    """As a device: a birth that asks for receipts, and an event until its receipt."""
    client = await RawClient.connect(port, "deviceA", password=secret)
    await client.subscribe("devices/deviceA/receipts")
    await client.publish("devices/deviceA/status", b'{"state":"online","receipts":true}')
    event = {"event_id": "e1", "metrics": {"temp": 20}}
    await client.publish("devices/deviceA/telemetry", json.dumps(event).encode())
    message = await client.message(WAIT_S_MAX)
    client.disconnect()
    return str(json.loads(message.payload)[0]["status"])


def test_one_line_in_the_env_file_turns_authentication_on(
    containers: Containers, server: str
) -> None:
    asyncio.run(make_database(server, DOT_ENV))
    script = containers.mosquitto()
    with ExitStack() as running:
        migrated(containers.service("migrate"), Path(script.log.parent))
        running.enter_context(script.running())
        services = {
            name: containers.service(name) for name in ("broker-files", "ingest", "schedule")
        }
        processes: dict[str, Process] = {}
        for name, service in services.items():
            processes[name] = running.enter_context(service.process(script.log.parent))
            service.wait_until_healthy(processes[name])

        assert asyncio.run(connack(containers.port, connect_packet("stranger"))) == NOT_AUTHORIZED
        assert broker_probe(containers.port) == 0
        secret = asyncio.run(registered_device(server))
        asyncio.run(accepted(containers.port, secret))
        assert asyncio.run(send_and_wait_for_the_receipt(containers.port, secret)) == "stored"
        assert [process.stop() for process in processes.values()] == [0, 0, 0]


async def accepted(port: int, secret: str) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while await connack(port, connect_packet("deviceA", password=secret)) == NOT_AUTHORIZED:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
