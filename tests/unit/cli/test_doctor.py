"""The checks of `voltwire doctor` that need no other process."""

import os
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.doctor.check_result import CheckResult, CheckStatus
from cli.doctor.command import _results
from cli.doctor.database import _canary
from cli.doctor.machine import check_machine
from runtime.settings import Settings
from tests.support.processes.services import free_port


def checked(**settings: object) -> dict[str, CheckResult]:
    ports = {"http_port": free_port(), "mqtt_port": free_port()}
    found = check_machine(Settings(**{**ports, **settings}))  # type: ignore[arg-type]
    return {each.check: each for each in found}


@pytest.fixture
def no_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for one reads what every process of the machine has open."""
    monkeypatch.setattr("cli.doctor.machine.listener_on", lambda _: None)


@pytest.mark.usefixtures("no_listeners")
def test_authentication_that_is_off_on_the_network_is_a_warning() -> None:
    assert checked()["authentication"].status is CheckStatus.OK
    assert checked(auth="on")["authentication"].status is CheckStatus.OK
    exposed = checked(http_host="0.0.0.0", auth="off", trusted_network=True)["authentication"]
    assert exposed.status is CheckStatus.WARNING
    assert "AUTH=on" in exposed.remedy


def test_a_port_that_another_program_uses_is_named_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = checked(http_port=port)["HTTP_PORT"]
    assert found.status is CheckStatus.FAILED
    assert f"process {os.getpid()}" in found.detail
    assert checked()["HTTP_PORT"].detail.startswith("nothing listens")


class Usage(NamedTuple):
    free: int


@pytest.mark.usefixtures("no_listeners")
@pytest.mark.parametrize(
    ("free", "status"),
    [(2**40, CheckStatus.OK), (2**29, CheckStatus.WARNING), (2**20, CheckStatus.FAILED)],
)
def test_a_disk_that_is_nearly_full_is_found(
    free: int, status: CheckStatus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cli.doctor.machine.shutil.disk_usage", lambda _: Usage(free))
    assert checked(data_dir=tmp_path / "not" / "there")["disk"].status is status
    assert checked(database_url="postgresql://x/y")["disk"].status is CheckStatus.SKIPPED


def test_a_canary_is_missing_after_ten_seconds() -> None:
    assert _canary("canary", 2).status is CheckStatus.OK
    late = _canary("canary", 3700)
    assert late.status is CheckStatus.FAILED
    assert "has not for 1:01:40 come back" in late.detail
    assert "has never come back" in _canary("canary", None).detail


async def test_settings_that_cannot_be_used_are_the_only_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTH", "off")
    monkeypatch.setenv("HTTP_HOST", "0.0.0.0")
    (found,) = await _results(None)
    assert (found.check, found.status) == ("settings", CheckStatus.FAILED)
    assert "TRUSTED_NETWORK" in found.detail
