"""The examples as their readers start them, against one running Voltwire."""

import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.conftest import base_url, stored
from tests.support import plain_http
from tests.support.services import ROOT, Process, clean_environment, free_port

EXAMPLES = ROOT / "examples"
S_MAX = 120  # Of an example on a busy machine.
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
        answer = plain_http.post(f"{base_url(up)}/v1/events/batch", json=events)
        assert Counter(item["status"] for item in answer.json()) == {"stored": 120}
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
    rows = [line.split() for line in run("analysis/energy.py", str(file)).splitlines()]
    # 59 events of a day last a minute, and the last one five, because no next event is near.
    taken = 300 * (10 + 12) * (59 + 5) / 60 / 1000
    given = 300 * (20 + 18) * (59 + 5) / 60 / 1000
    assert rows == [
        ["device_id", "taken_kwh", "given_kwh"],
        ["charging", f"{taken:.2f}", "0.00"],
        ["discharging", "0.00", f"{given:.2f}"],
    ]
