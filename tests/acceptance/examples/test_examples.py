"""The examples as their readers start them, against one running Voltwire."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import base_url, stored
from tests.support.http import plain_http
from tests.support.processes.programs import require_program
from tests.support.processes.services import ROOT, Process, clean_environment, free_port

EXAMPLES = ROOT / "examples"
S_MAX = 120  # Of an example on a busy machine.
MICROPYTHON, BOARD = EXAMPLES / "micropython", ROOT / "tests/support/micropython"
PUBLISH = re.compile(r"^mosquitto_pub .*$", re.MULTILINE)
CLIENTS = ("device_paho.py", "device_aiomqtt.py")


def run(example: str, *arguments: str, **environment: str) -> str:
    """What the example prints; it must end by itself."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / example, *arguments], env=clean_environment(environment),
        capture_output=True, text=True, timeout=S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def waiting(outbox: Path) -> int:
    """How many events the outbox holds."""
    if not outbox.exists():
        return 0
    with closing(sqlite3.connect(outbox)) as file:
        if not file.execute("select count(*) from sqlite_master where name = 'event'").fetchone()[
            0
        ]:
            return 0
        return int(file.execute("select count(*) from event").fetchone()[0])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_python_device_that_was_killed_without_a_broker_loses_and_doubles_nothing(
    up: Process, tmp_path: Path, client: str
) -> None:
    device_id, outbox = client.removesuffix(".py"), tmp_path / "outbox.db"
    options = [device_id, f"--outbox={outbox}", "--interval=0.1"]
    nowhere = f"--mqtt=mqtt://127.0.0.1:{free_port()}"
    program = str(EXAMPLES / "python-device" / client)
    command = [sys.executable, program, *options, nowhere]
    with subprocess.Popen(command, env=clean_environment({}), stdout=subprocess.DEVNULL) as alone:
        deadline = time.monotonic() + S_MAX
        while waiting(outbox) < 3:
            assert time.monotonic() < deadline
            assert alone.poll() is None
            time.sleep(0.05)
        alone.kill()
    kept = waiting(outbox)
    broker = f"--mqtt=mqtt://127.0.0.1:{up.settings['MQTT_PORT']}"
    run(f"python-device/{client}", *options, broker, "--count=2")
    assert waiting(outbox) == 0
    found = stored(base_url(up), device_id)
    assert len(found) == kept + 2
    assert set(found.values()) == {1}
    gaps = plain_http.get(f"{base_url(up)}/v1/devices/{device_id}/gaps")
    assert gaps.json() == []


@pytest.fixture(scope="module")
def measured(up: Process) -> str:
    """Two batteries, two days, an event each minute of the first hour; the API's address."""
    begin = datetime(2026, 2, 1, tzinfo=UTC)
    for device, current in (("charging", 10), ("discharging", -20)):
        events = [
            {
                "device_id": device,
                "event_id": f"{day}-{minute}",
                "timestamp": (begin + timedelta(days=day, minutes=minute)).isoformat(),
                "metrics": {"voltage_v": 300, "current_a": current + 2 * day},
            }
            for day in range(2)
            for minute in range(60)
        ]
        response = plain_http.post(f"{base_url(up)}/v1/events/batch", json=events)
        assert Counter(item["status"] for item in response.json()) == {"stored": 120}
    return base_url(up)


def test_pandas_shows_the_daily_mean_of_each_metric(measured: str) -> None:
    shown = run("analysis/daily_means.py", measured, "2026-02-01T00:00:00Z", "2026-02-03T00:00:00Z")
    rows = [line.split() for line in shown.splitlines()[2:]]
    assert rows == [
        ["charging", "2026-02-01", "00:00:00+00:00", "10.0", "300.0"],
        ["2026-02-02", "00:00:00+00:00", "12.0", "300.0"],
        ["discharging", "2026-02-01", "00:00:00+00:00", "-20.0", "300.0"],
        ["2026-02-02", "00:00:00+00:00", "-18.0", "300.0"],
    ]


def test_duckdb_shows_the_energy_of_each_device(measured: str, tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    query = "format=parquet&device_id=charging&device_id=discharging"
    file.write_bytes(plain_http.get(f"{measured}/v1/export?{query}", timeout=60).content)
    shown = run("analysis/energy.py", str(file))
    # 59 events of a day last a minute, and the last one five, because no next event is near.
    taken = 300 * (10 + 12) * (59 + 5) / 60 / 1000
    given = 300 * (20 + 18) * (59 + 5) / 60 / 1000
    assert shown.splitlines() == [
        f"charging: {taken:.3f} kWh taken, 0.000 kWh given",
        f"discharging: 0.000 kWh taken, {given:.3f} kWh given",
    ]


def wake(board: Path, port: int) -> str:
    """From one wake to the next sleep."""
    configuration = (MICROPYTHON / "config.py").read_text("utf-8")
    for name, value in (("192.168.1.5", "127.0.0.1"), ("1883", str(port))):
        configuration = configuration.replace(name, value)
    (board / "config.py").write_text(configuration)
    # config.py changes within a second, which Python would not notice.
    environment = clean_environment({"PYTHONDONTWRITEBYTECODE": "1"})
    environment["PYTHONPATH"] = f"{board}:{BOARD}"
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=board, env=environment, capture_output=True, text=True,
        timeout=S_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("sleeps 600000\n")
    return done.stdout


def documented_messages() -> list[str]:
    """Every mosquitto_pub of the documents; the embedded broker does not speak MQTT 5."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [
        line for document in documents for line in PUBLISH.findall(document.read_text("utf-8"))
    ]
    return [line for line in found if "-V 5" not in line]


def test_every_documented_message_is_understood(up: Process) -> None:
    require_program("mosquitto_pub")
    port, url = up.settings["MQTT_PORT"], base_url(up)
    commands = documented_messages()
    assert len(commands) > 10
    last = (
        """mosquitto_pub -q 1 -t devices/last/telemetry -m '{"event_id":"end","metrics":{"x":1}}'"""
    )
    for command in (*commands, last):
        at_port = command.replace("mosquitto_pub", f"mosquitto_pub -p {port}", 1)
        subprocess.run(["bash", "-c", at_port], timeout=S_MAX, check=True)
    deadline = time.monotonic() + S_MAX
    while plain_http.get(f"{url}/v1/devices/last").status_code != httpx.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert plain_http.get(f"{url}/v1/rejected").json() == []
    assert stored(url, "battery-7") == {"b7-1": 1}


def until_asleep(url: str, device_id: str) -> dict[str, Any]:
    """The last status arrives after the sketch has ended."""
    deadline = time.monotonic() + S_MAX
    while True:
        presence: dict[str, Any] = plain_http.get(f"{url}/v1/devices/{device_id}/presence").json()
        if presence["state"] == "asleep":
            return presence
        assert time.monotonic() < deadline, presence
        time.sleep(0.05)


def test_what_a_micropython_sensor_measured_without_a_broker_is_stored_once_after_a_power_cut(
    up: Process, tmp_path: Path
) -> None:
    for name in ("main.py", "outbox.py"):
        shutil.copy(MICROPYTHON / name, tmp_path)
    assert "not sent" in wake(tmp_path, free_port())
    wake(tmp_path, free_port())
    (tmp_path / "rtc_memory").unlink()  # A power cut.
    port = int(up.settings["MQTT_PORT"])
    assert "not sent" not in wake(tmp_path, port)
    assert json.loads((tmp_path / "outbox.json").read_text()) == [4, []]
    url = base_url(up)
    assert set(stored(url, "garden-1").values()) == {1}
    events = plain_http.get(f"{url}/v1/devices/garden-1/events").json()
    assert sorted(event["seq"] for event in events) == [1, 2, 3]
    assert {event["metrics"]["supply_v"] for event in events} == {3.8}
    assert until_asleep(url, "garden-1")["expected_interval_s"] == 600
    wake(tmp_path, port)
    assert len(stored(url, "garden-1")) == 4
