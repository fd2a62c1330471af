"""selftest and simulate on a system with authentication on: they make credentials, and leave none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from runtime.postgres.server import running_postgres
from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create, list_in_force
from schema.access.secrets import CredentialKind
from tests.acceptance.conftest import running_up
from tests.support.processes.services import Process, voltwire


@pytest.fixture(scope="module")
def up(data_folder: Path) -> Iterator[Process]:
    with running_up(data=data_folder, AUTH="on") as process:
        yield process


def dsn_of(up: Process) -> str:
    dsn = running_postgres(up.folder / up.settings["DATA_DIR"])
    assert dsn is not None
    return dsn


@pytest.fixture(scope="module")
def settings(up: Process) -> dict[str, str]:
    """What a command needs, with an admin key."""

    async def make_key() -> str | None:
        connection = await asyncpg.connect(dsn_of(up))
        try:
            return await create(connection, COMMAND, CredentialKind.KEY, "admin", [Scope.ADMIN])
        finally:
            await connection.close()

    key = asyncio.run(make_key())
    assert key is not None
    return {**up.settings, "API_KEY": key}


def devices_with_credentials(up: Process) -> list[str]:
    async def read() -> list[str]:
        connection = await asyncpg.connect(dsn_of(up))
        try:
            return [each.name for each in await list_in_force(connection, [CredentialKind.DEVICE])]
        finally:
            await connection.close()

    return asyncio.run(read())


def test_a_selftest_with_an_admin_key_loses_nothing_and_leaves_no_credentials(
    up: Process, settings: dict[str, str]
) -> None:
    run = voltwire("selftest", "--events", "100", **settings)
    assert run.returncode == 0, run.stdout + run.stderr
    assert devices_with_credentials(up) == []


@pytest.mark.parametrize("forget", [(), ("--forget",)])
def test_a_simulated_fleet_with_an_admin_key_gets_its_receipts_and_leaves_no_credentials(
    up: Process, settings: dict[str, str], forget: tuple[str, ...]
) -> None:
    options = ("--devices", "3", "--interval", "0.2", "--duration", "2")
    run = voltwire("simulate", *options, *forget, **settings)
    assert run.returncode == 0, run.stdout + run.stderr
    assert devices_with_credentials(up) == []


def test_watch_and_doctor_say_which_key_they_need(up: Process, settings: dict[str, str]) -> None:
    without = voltwire("watch", **up.settings)
    assert (without.returncode, "--scope read" in without.stderr) == (1, True), without.stderr
    data = str(up.folder / up.settings["DATA_DIR"])
    wrong = voltwire("doctor", **settings | {"DATA_DIR": data, "API_KEY": "vwk_wrong"})
    assert wrong.returncode == 1
    assert "the API does not know this key" in wrong.stdout
    right = voltwire("doctor", **settings | {"DATA_DIR": data})
    assert right.returncode == 0, right.stdout
    assert "accepts no stranger" in right.stdout
    assert settings["API_KEY"] not in right.stdout
    unaware = voltwire("doctor", **settings | {"DATA_DIR": data, "AUTH": "off"})
    assert unaware.returncode == 0, unaware.stdout
    assert "the running system and these settings differ about AUTH" in unaware.stdout
    assert "asks for a login, and AUTH is not on here" in unaware.stdout


@pytest.mark.parametrize("command", ["selftest", "simulate"])
def test_without_a_key_one_sentence_says_what_is_missing(up: Process, command: str) -> None:
    run = voltwire(command, **up.settings)
    assert run.returncode in {1, 2}
    (line,) = run.stderr.splitlines()
    assert "API_KEY" in line
