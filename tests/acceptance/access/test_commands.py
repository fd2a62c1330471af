"""`voltwire key` and `voltwire device`, and what a system with authentication on says and answers."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.acceptance.conftest import base_url, running_up
from tests.support.http import plain_http
from tests.support.http.access import bearer
from tests.support.processes.services import ForkedProcess, Process, free_port, voltwire

WITHIN_S = 60
FIRST_KEY = "voltwire key create admin --scope admin"


@pytest.fixture(scope="module")
def up(data_folder: Path) -> Iterator[Process]:
    """Closed, and without any key."""
    with running_up(data=data_folder, AUTH="on") as process:
        yield process


def command(up: Process, *arguments: str, **settings: str) -> Any:
    """The response as JSON."""
    done = run(up, *arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(up: Process, *arguments: str, **settings: str) -> Any:
    own = up.settings | {"DATA_DIR": str(up.folder / up.settings["DATA_DIR"])} | settings
    return voltwire(*arguments, **own)


def until_status(up: Process, secret: str, code: int, path: str = "/v1/devices") -> None:
    deadline = time.monotonic() + WITHIN_S
    while plain_http.get(f"{base_url(up)}{path}", headers=bearer(secret)).status_code != code:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_system_without_keys_is_closed_and_says_how_to_make_the_first(up: Process) -> None:
    assert plain_http.get(f"{base_url(up)}/v1/devices").status_code == 401
    assert plain_http.get(f"{base_url(up)}/health").json() == {"status": "ok"}
    deadline = time.monotonic() + WITHIN_S
    while not re.search(rf"This makes one:\n    \S*{FIRST_KEY}\n", up.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    made = run(up, *FIRST_KEY.split()[1:])
    assert made.returncode == 0, made.stderr
    secret = made.stdout.split("secret")[1].split()[0]
    assert "never again" in made.stdout
    until_status(up, secret, 200)


def test_keys_are_created_listed_and_revoked(up: Process) -> None:
    made = command(up, "key", "create", "reader", "--scope", "read", "--scope", "metrics")
    assert made["scopes"] == ["metrics", "read"]
    until_status(up, made["secret"], 200)
    until_status(up, made["secret"], 200, "/metrics")
    assert "reader" in {each["name"] for each in command(up, "key", "list")}
    again = run(up, "key", "create", "reader", "--scope", "read")
    assert (again.returncode, "already" in again.stderr) == (1, True)
    assert command(up, "key", "revoke", "reader") == {"name": "reader", "revoked": ["key"]}
    until_status(up, made["secret"], 401)
    assert run(up, "key", "revoke", "reader").returncode == 1


def test_devices_get_secrets_rotate_and_lose_them(up: Process) -> None:
    first = command(up, "device", "add", "pump:1")
    assert (first["device_id"], first["login"]) == ("pump:1", "pump%3A1")
    assert run(up, "device", "add", "pump:1").returncode == 1
    second = command(up, "device", "rotate", "pump:1", "--overlap", "600")
    assert str(second["overlap_s"]) == "600"
    assert second["secret"] != first["secret"]
    for n, each in enumerate((first, second)):
        event = {"event_id": f"e{n}", "metrics": {"temp": 1}}
        assert post_until_answered(up, each["secret"], event).json() == {"status": "ok"}
    assert [each["name"] for each in command(up, "device", "list")] == ["pump:1"]
    assert command(up, "device", "revoke", "pump:1")["revoked"] == ["secret"]
    assert run(up, "device", "revoke", "pump:1").returncode == 1
    certificate = command(up, "device", "add", "pump:1", "--certificate")
    assert "secret" not in certificate


def test_devices_are_imported_from_a_file_with_an_admin_key(up: Process, tmp_path: Path) -> None:
    file, bad, array = tmp_path / "devices.csv", tmp_path / "bad.csv", tmp_path / "devices.JSON"
    file.write_text("device_id,name,tz\nimported1,Shed,Asia/Tokyo\nimported2,,\n")
    bad.write_text("device_id,interval_s\nimported3,soon\nimported\x1b 4,1\n")
    array.write_text('[{"device_id":"imported1","name":"Barn"},{"device_id":"imported2"}]')
    without = run(up, "device", "import", str(file))
    assert (without.returncode, "wants a key" in without.stderr) == (1, True), without.stderr
    key = {"API_KEY": command(up, "key", "create", "importer", "--scope", "admin")["secret"]}
    until_status(up, key["API_KEY"], 200)
    done = run(up, "device", "import", str(file), **key)
    assert done.stdout == "2 devices are new, 0 changed, 0 stay as they were.\n", done.stderr
    again = command(up, "device", "import", str(array), **key)
    assert again == {"devices": 2, "created": 0, "changed": 1}
    refused = run(up, "device", "import", str(bad), **key)
    assert refused.returncode == 1
    lines = [line.split(maxsplit=3) for line in refused.stderr.splitlines()]
    assert [line[:3] for line in lines[:2]] == [
        ["line", "2", "interval_s"], ["line", "3", "device_id"],
    ]  # fmt: skip
    assert refused.stderr.endswith("2 faults in all. Nothing is imported.\n")
    assert run(up, "device", "import", str(tmp_path / "none.csv"), **key).returncode == 2


def post_until_answered(up: Process, secret: str, event: dict[str, Any]) -> httpx.Response:
    """The process hears of a new secret within milliseconds."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        response = plain_http.post(f"{base_url(up)}/v1/events", json=event, headers=bearer(secret))
        if response.status_code != 401:
            return response
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "arguments",
    [
        ("key", "create", "x"),
        ("key", "create", "a b", "--scope", "read"),
        ("key", "create", "x", "--scope", "root"),
        ("device", "add", "_key.x"),
        ("device", "rotate", "x", "--overlap", "-1"),
        ("device",),
        ("key", "lose", "x"),
    ],
)
def test_misuse_ends_with_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_client_id_of_ours_is_no_device(up: Process) -> None:
    refused = run(up, "device", "add", "voltwire-ingest")
    assert (refused.returncode, "client id of Voltwire" in refused.stderr) == (1, True)


def test_with_authentication_off_the_commands_work_and_say_so(up: Process) -> None:
    made = run(up, "key", "create", "later", "--scope", "read", AUTH="off")
    assert made.returncode == 0
    assert "leave authentication off" in made.stdout


def test_the_selftest_says_which_key_is_missing(up: Process) -> None:
    small = ("selftest", "--events", "20", "--devices", "2")
    without = run(up, *small)
    assert without.returncode != 0
    assert "API_KEY" in without.stderr
    wrong = run(up, *small, API_KEY="vwk_wrong")
    assert (wrong.returncode, "no valid key" in wrong.stderr) == (1, True), wrong.stderr
    reader = command(up, "key", "create", "selftest-reader", "--scope", "read")["secret"]
    until_status(up, reader, 200)
    less = run(up, *small, API_KEY=reader)
    assert (less.returncode, "admin" in less.stderr) == (1, True), less.stderr


def test_the_port_for_checks_asks_for_the_same_keys(up: Process, database: str) -> None:
    port = free_port()
    settings = {"DATABASE_URL": database, "AUTH": "on", "STATUS_PORT": str(port)}
    base = f"http://127.0.0.1:{port}"
    key = voltwire("key", "create", "scraper", "--scope", "metrics", "--json", **settings)
    secret = json.loads(key.stdout)["secret"]
    mqtt_url = f"mqtt://127.0.0.1:{up.settings['MQTT_PORT']}"
    with ForkedProcess(
        up.folder, "schedule", settings=settings | {"MQTT_URL": mqtt_url}
    ) as schedule:
        schedule.wait_until_ok(f"{base}/live")
        assert plain_http.get(f"{base}/metrics").status_code == 401
        deadline = time.monotonic() + WITHIN_S
        while plain_http.get(f"{base}/metrics", headers=bearer(secret)).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert set(plain_http.get(f"{base}/health").json()) == {"status"}


def test_up_on_a_public_address_starts_closed(data_folder: Path) -> None:
    with running_up(data=data_folder, HTTP_HOST="0.0.0.0") as up:
        assert plain_http.get(f"{base_url(up)}/v1/devices").status_code == 401
        assert FIRST_KEY in up.log.read_text()
