"""`voltwire up` as a user runs it: what it shows, what it refuses, how it explains itself."""

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from uuid import uuid4

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from cli.main import app
from runtime.version import VERSION
from tests.acceptance.conftest import base_url, up_settings
from tests.support.brokers.mqtt import connect_packet
from tests.support.http import plain_http
from tests.support.processes.services import (
    COMMAND_S_MAX,
    Process,
    clean_environment,
    free_port,
    temporary_folder,
    voltwire,
)

VISIBLE_S_MAX = 0.2
VISIBLE_ANYWAY_S_MAX = 60
# Nothing that they need listens.
FAILING = """
backup x.dump
device list
doctor
key list
migrate
replay
restore x.dump
retention
selftest
simulate
sql -c select
"""
CALM_S_MAX = 60  # So long a machine may be too busy for ten events.


def test_a_published_event_is_visible_within_200_ms_and_its_repeat_is_a_duplicate(
    embedded_up: Process,
) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(embedded_up.settings["MQTT_PORT"]))
    client.loop_start()
    try:
        deadline = time.monotonic() + CALM_S_MAX
        while (delay := delay_of_ten(client, base_url(embedded_up))) > VISIBLE_S_MAX:
            assert time.monotonic() < deadline, delay
    finally:
        client.disconnect()
        client.loop_stop()
    (newest, *_) = plain_http.get(f"{base_url(embedded_up)}/v1/devices/x/events?limit=1").json()
    again = {"event_id": newest["event_id"], "device_id": "x", "metrics": {"temp": 0}}
    response = plain_http.post(f"{base_url(embedded_up)}/v1/events", json=again)
    assert response.json() == {"status": "duplicate"}


def test_nobody_else_connects_as_one_of_our_sessions(embedded_up: Process) -> None:
    port = int(embedded_up.settings["MQTT_PORT"])
    for client_id, code in (("voltwire-ingest", 5), ("voltwire-delivery", 5), ("somebody", 0)):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
            stranger.sendall(connect_packet(client_id, clean=False))
            assert stranger.recv(4) == bytes((0x20, 2, 0, code))
    assert plain_http.get(f"{base_url(embedded_up)}/health").status_code == 200


def delay_of_ten(client: mqtt.Client, url: str) -> float:
    """The median from publishing an event to seeing it."""
    delays = []
    for n in range(10):
        name = uuid4().hex
        event = {"event_id": name, "metrics": {"temp": n}}
        began = time.monotonic()
        client.publish("devices/x/telemetry", json.dumps(event), qos=1)
        while name not in plain_http.get(f"{url}/v1/devices/x/events?limit=10", timeout=30).text:
            assert time.monotonic() - began < VISIBLE_ANYWAY_S_MAX
        delays.append(time.monotonic() - began)
    return sorted(delays)[4]


def test_a_second_one_on_the_same_folder_or_port_is_refused_and_names_the_first(
    embedded_up: Process,
) -> None:
    pid = str(embedded_up.process.pid)
    other = up_settings()
    same_folder = voltwire("up", **other | {"DATA_DIR": str(embedded_up.folder / "data")})
    assert (same_folder.returncode, pid in same_folder.stderr) == (1, True), same_folder.stderr
    same_all = voltwire(
        "up", **embedded_up.settings | {"DATA_DIR": str(embedded_up.folder / "data")}
    )
    assert f"data is in use by process {pid}" in same_all.stderr
    assert same_all.stdout == ""
    same_port = voltwire("up", **other | {"HTTP_PORT": embedded_up.settings["HTTP_PORT"]})
    assert same_port.returncode == 1
    assert f"is in use by process {pid} (" in same_port.stderr


def test_a_replay_finds_the_running_database_by_itself(embedded_up: Process) -> None:
    data = str(embedded_up.folder / "data")
    found = voltwire("replay", "--dry-run", **embedded_up.settings | {"DATA_DIR": data})
    assert (found.returncode, "letters" in found.stdout) == (0, True), found.stderr
    missing = voltwire("replay", DATA_DIR=data + "-elsewhere")
    assert (missing.returncode, "no voltwire up runs on" in missing.stderr) == (1, True)


def test_a_role_whose_port_is_taken_says_so_in_one_sentence(embedded_up: Process) -> None:
    settings = {
        "HTTP_PORT": embedded_up.settings["HTTP_PORT"],
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
    }
    refused = voltwire("api", **settings)
    assert refused.returncode == 1
    assert "change HTTP_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_command_starts_in_a_python_of_its_own() -> None:
    """Other tests fork theirs from a process that has imported everything."""
    settings = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "MQTT_PORT": str(free_port())}
    with temporary_folder() as folder, ExitStack() as stack:
        for command in FAILING.split("\n")[1:-1]:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *command.split()], cwd=folder,
                env=clean_environment(settings), stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.callback(assert_failed, stack.enter_context(process))


def assert_failed(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate(timeout=COMMAND_S_MAX)
    assert process.returncode in {1, 2}, errors
    assert "Traceback" not in errors, errors


def test_the_program_explains_itself_and_its_exit_codes() -> None:
    assert voltwire("--version").stdout.strip() == f"voltwire {VERSION}"
    for command in ("up", "broker", "ingest", "api", "schedule", "migrate", "simulate"):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert (shown.exit_code, "Usage" in shown.stdout) == (0, True), command
    assert voltwire("no-such-command").returncode == 2
    misuse = voltwire("api", HTTP_HOST="0.0.0.0", AUTH="off", MQTT_CA_FILE="/nowhere")
    assert misuse.returncode == 2
    assert "TRUSTED_NETWORK" in misuse.stderr
    assert "MQTT_CA_FILE" in misuse.stderr
    assert voltwire("api").returncode == 2, "no database"
    failed = voltwire("migrate", DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (failed.returncode, "Check DATABASE_URL" in failed.stderr) == (1, True)
