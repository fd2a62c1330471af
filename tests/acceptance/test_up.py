"""`voltwire up` as a user runs it: started, watched, stopped, killed, restarted."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from runtime.version import VERSION
from tests.acceptance.conftest import base_url, up_settings
from tests.support.services import ROOT, Process, clean_environment, temporary_folder


@pytest.fixture
def own_up() -> Iterator[Process]:
    """Everything embedded, for a test that stops or kills it."""
    with temporary_folder() as folder, Process(folder, "up", settings=up_settings()) as process:
        process.wait_until_ok(f"{base_url(process)}/health")
        yield process


def voltwire(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env=clean_environment(settings), cwd=ROOT / "tests", capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


def family(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive, alive


def stored(url: str, device_id: str) -> Counter[str]:
    """Every stored event id of a device, through all pages."""
    found: Counter[str] = Counter()
    page: str | None = f"{url}/v1/devices/{device_id}/events?limit=1000"
    while page:
        answer = httpx.get(page, timeout=10).raise_for_status()
        found.update(event["event_id"] for event in answer.json())
        page = answer.links.get("next", {}).get("url")
        page = page and f"{url}{page}"
    return found


def test_a_published_event_is_visible_within_200_ms_and_its_repeat_is_a_duplicate(
    up: Process,
) -> None:
    url = base_url(up)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(up.settings["MQTT_PORT"]))
    client.loop_start()
    try:
        delays = []
        for n in range(10):
            event = {"event_id": f"m{n}", "metrics": {"temp": n}}
            began = time.monotonic()
            client.publish("devices/x/telemetry", json.dumps(event), qos=1)
            while f"m{n}" not in httpx.get(f"{url}/v1/devices/x/events?limit=10").text:
                assert time.monotonic() - began < 2
            delays.append(time.monotonic() - began)
    finally:
        client.disconnect()
        client.loop_stop()
    assert sorted(delays)[4] < 0.2, delays
    again = {"event_id": "m0", "device_id": "x", "metrics": {"temp": 0}}
    assert httpx.post(f"{url}/v1/events", json=again).json() == {"status": "duplicate"}


def test_a_second_one_on_the_same_folder_or_port_is_refused_and_names_the_first(
    up: Process,
) -> None:
    pid = str(up.process.pid)
    other = up_settings()
    same_folder = voltwire("up", **other | {"DATA_DIR": str(up.folder / "data")})
    assert (same_folder.returncode, pid in same_folder.stderr) == (1, True), same_folder.stderr
    same_port = voltwire("up", **other | {"HTTP_PORT": up.settings["HTTP_PORT"]})
    assert (same_port.returncode, pid in same_port.stderr) == (1, True), same_port.stderr


def test_a_role_whose_port_is_taken_says_so_in_one_sentence(up: Process) -> None:
    settings = {"HTTP_PORT": up.settings["HTTP_PORT"], "DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    refused = voltwire("api", **settings)
    assert refused.returncode == 1
    assert "change HTTP_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sigterm_ends_with_exit_code_0_and_leaves_no_process(own_up: Process) -> None:
    children = family(own_up)
    assert len(children) >= 2, "PostgreSQL and the broker"
    url = base_url(own_up)
    ok = []
    stopping = threading.Timer(0.5, own_up.process.send_signal, (signal.SIGTERM,))
    stopping.start()
    with httpx.Client() as client:
        for n in range(2000):
            try:
                body = {"event_id": f"t{n}", "device_id": f"d{n % 50}", "metrics": {"x": n}}
                if (
                    client.post(f"{url}/v1/events", json=body, timeout=10).status_code
                    == httpx.codes.OK
                ):
                    ok.append((f"d{n % 50}", f"t{n}"))
            except httpx.TransportError:
                break
    assert own_up.process.wait(10) == 0, own_up.log.read_text()[-2000:]
    assert_gone(children)
    own_up.start()
    own_up.wait_until_ok(f"{url}/health")
    for device in {device for device, _ in ok}:
        found = stored(url, device)
        assert all(found[event] == 1 for name, event in ok if name == device)


def test_kill_9_in_mid_stream_loses_nothing_that_was_answered_ok(own_up: Process) -> None:
    url = base_url(own_up)
    answered: set[str] = set()
    attempted: set[str] = set()
    for round_ in range(3):
        children = family(own_up)
        killing = threading.Timer(0.4 + 0.2 * round_, own_up.process.send_signal, (signal.SIGKILL,))
        killing.start()
        with httpx.Client() as client:
            for n in range(10_000):
                ids = [f"{round_}-{n}-{i}" for i in range(10)]
                attempted.update(ids)
                batch = [{"event_id": i, "device_id": "k", "metrics": {"x": 1}} for i in ids]
                try:
                    answer = client.post(f"{url}/v1/events/batch", json=batch, timeout=10)
                except httpx.TransportError:
                    break
                if answer.status_code == httpx.codes.OK:
                    answered.update(ids)
        own_up.process.wait(5)
        assert_gone(children)
        own_up.start()
        own_up.wait_until_ok(f"{url}/health")
    found = stored(url, "k")
    assert answered
    assert not answered - found.keys(), "lost"
    assert not [name for name, count in found.items() if count > 1], "doubled"
    assert not found.keys() - attempted, "unexpected"


def test_a_frozen_database_is_told_in_time_and_does_not_hold_up_the_end(own_up: Process) -> None:
    url = base_url(own_up)
    event = {"event_id": "1", "device_id": "f", "metrics": {"x": 1}}
    rule = {"metric": "x", "op": ">", "threshold": 1}
    httpx.post(f"{url}/v1/events", json=event).raise_for_status()
    httpx.get(f"{url}/v1/devices").raise_for_status()
    frozen = [child for child in family(own_up) if child.name() == "postgres"]
    for child in frozen:
        child.suspend()
    for path, body in (("/v1/events", event), ("/v1/alerts", rule)):
        began = time.monotonic()
        answer = httpx.post(f"{url}{path}", json=body, timeout=10)
        assert (answer.status_code, time.monotonic() - began < 5.5) == (503, True), path
        assert int(answer.headers["Retry-After"]) >= 1
    assert httpx.get(f"{url}/health", timeout=5).status_code == 503
    assert httpx.get(f"{url}/live", timeout=5).status_code == 200
    began = time.monotonic()
    own_up.process.send_signal(signal.SIGTERM)
    assert own_up.process.wait(15) == 0
    assert time.monotonic() - began < 10.5
    assert_gone(frozen)
    own_up.start()
    own_up.wait_until_ok(f"{url}/health")
    assert stored(url, "f") == {"1": 1}


def test_an_embedded_part_that_dies_is_started_again(own_up: Process) -> None:
    url = base_url(own_up)
    body = {"event_id": "before", "device_id": "r", "metrics": {"x": 1}}
    assert httpx.post(f"{url}/v1/events", json=body).json() == {"status": "ok"}
    for child in psutil.Process(own_up.process.pid).children():
        child.kill()  # the postmaster and the broker
    deadline = time.monotonic() + 30
    answer = None
    while time.monotonic() < deadline and answer != {"status": "ok"}:
        time.sleep(0.2)
        answer = httpx.post(
            f"{url}/v1/events", json=body | {"event_id": "after"}, timeout=10
        ).json()
        if answer == {"status": "duplicate"}:
            break
    assert stored(url, "r") == {"before": 1, "after": 1}
    own_up.wait_until_ok(f"{url}/health")


def test_the_second_start_is_quick(own_up: Process) -> None:
    own_up.stop()
    began = time.monotonic()
    own_up.start()
    own_up.wait_until_ok(f"{base_url(own_up)}/health")
    assert time.monotonic() - began < 12  # Under 3 s on an idle machine; CI machines are not.


def test_the_program_explains_itself_and_its_exit_codes() -> None:
    assert voltwire("--version").stdout.strip() == f"voltwire {VERSION}"
    for command in ("up", "broker", "ingest", "api", "schedule", "migrate", "simulate"):
        shown = voltwire(command, "--help")
        assert (shown.returncode, "Usage" in shown.stdout) == (0, True), command
    assert voltwire("no-such-command").returncode == 2
    misuse = voltwire("api", HTTP_HOST="0.0.0.0", AUTH="off", MQTT_CA_FILE="/nowhere")
    assert misuse.returncode == 2
    assert "TRUSTED_NETWORK" in misuse.stderr
    assert "MQTT_CA_FILE" in misuse.stderr
    assert voltwire("api").returncode == 2, "no database"
    failed = voltwire("migrate", DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (failed.returncode, "Check DATABASE_URL" in failed.stderr) == (1, True)
