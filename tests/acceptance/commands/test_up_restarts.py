"""`voltwire up` stopped, killed, frozen and started again: nothing is lost, and nothing stays behind."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.acceptance.conftest import base_url, stored
from tests.support.http import plain_http
from tests.support.processes.services import Process, assert_gone, family

# The product refuses within 5 s and stops within 10 s; a busy machine delays both sides.
REFUSED_S_MAX = 8
STOP_S_MAX = 15
BACK_S_MAX = 60
SECOND_START_S_MAX = 30


def test_sigterm_ends_with_exit_code_0_and_leaves_no_process(own_up: Process) -> None:
    children = family(own_up)
    assert len(children) >= 2, "PostgreSQL and the broker"
    url = base_url(own_up)
    ok = []
    stopping = threading.Timer(0.5, own_up.process.send_signal, (signal.SIGTERM,))
    stopping.start()
    with plain_http.Client() as client:
        for n in range(2000):
            try:
                body = {"event_id": f"t{n}", "device_id": f"d{n % 50}", "metrics": {"x": n}}
                if (
                    client.post(f"{url}/v1/events", json=body, timeout=30).status_code
                    == httpx.codes.OK
                ):
                    ok.append((f"d{n % 50}", f"t{n}"))
            except httpx.TransportError:
                break
    assert own_up.process.wait(STOP_S_MAX) == 0, own_up.log.read_text()[-2000:]
    assert own_up.log.read_text().endswith("Stopped. The data stays in data.\n")
    assert_gone(children)
    own_up.start()
    own_up.wait_until_ok(f"{url}/health")
    for device in {device for device, _ in ok}:
        found = stored(url, device)
        assert all(found[event] == 1 for name, event in ok if name == device)


@pytest.mark.chaos
def test_kill_9_in_mid_stream_loses_nothing_that_was_answered_ok(own_up: Process) -> None:
    url = base_url(own_up)
    answered: set[str] = set()
    attempted: set[str] = set()
    for round_ in range(3):
        children = family(own_up)
        killing = threading.Timer(0.4 + 0.2 * round_, own_up.process.send_signal, (signal.SIGKILL,))
        killing.start()
        with plain_http.Client() as client:
            for n in range(10_000):
                ids = [f"{round_}-{n}-{i}" for i in range(10)]
                attempted.update(ids)
                batch = [{"event_id": i, "device_id": "k", "metrics": {"x": 1}} for i in ids]
                try:
                    response = client.post(f"{url}/v1/events/batch", json=batch, timeout=30)
                except httpx.TransportError:
                    break
                if response.status_code == httpx.codes.OK:
                    answered.update(ids)
        own_up.process.wait(STOP_S_MAX)
        assert_gone(children)
        own_up.start()
        own_up.wait_until_ok(f"{url}/health")
    found = stored(url, "k")
    assert answered
    assert not answered - found.keys(), "lost"
    assert not [name for name, count in found.items() if count > 1], "doubled"
    assert not found.keys() - attempted, "unexpected"


@pytest.mark.chaos
def test_a_frozen_database_is_reported_in_time_and_does_not_delay_the_shutdown(
    own_up: Process,
) -> None:
    url = base_url(own_up)
    event = {"event_id": "1", "device_id": "f", "metrics": {"x": 1}}
    rule = {"metric": "x", "op": ">", "threshold": 1}
    plain_http.post(f"{url}/v1/events", json=event).raise_for_status()
    plain_http.get(f"{url}/v1/devices").raise_for_status()
    frozen = [child for child in family(own_up) if child.name() == "postgres"]
    for child in frozen:
        child.suspend()
    with ThreadPoolExecutor() as pool:
        requests = [
            pool.submit(refused_after_s, f"{url}{path}", body)
            for path, body in (("/v1/events", event), ("/v1/alerts", rule))
        ]
    assert max(each.result() for each in requests) < REFUSED_S_MAX
    assert plain_http.get(f"{url}/health", timeout=REFUSED_S_MAX).status_code == 503
    assert plain_http.get(f"{url}/live", timeout=REFUSED_S_MAX).status_code == 200
    own_up.process.send_signal(signal.SIGTERM)
    assert own_up.process.wait(STOP_S_MAX) == 0
    assert_gone(frozen)
    own_up.start()
    own_up.wait_until_ok(f"{url}/health")
    assert stored(url, "f") == {"1": 1}


def refused_after_s(url: str, body: object) -> float:
    began = time.monotonic()
    response = plain_http.post(url, json=body, timeout=REFUSED_S_MAX)
    assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE, url
    assert int(response.headers["Retry-After"]) >= 1
    return time.monotonic() - began


def test_an_embedded_part_that_dies_is_started_again(own_up: Process) -> None:
    url = base_url(own_up)
    body = {"event_id": "before", "device_id": "r", "metrics": {"x": 1}}
    assert plain_http.post(f"{url}/v1/events", json=body).json() == {"status": "ok"}
    for child in psutil.Process(own_up.process.pid).children():
        child.kill()  # the postmaster and the broker
    deadline = time.monotonic() + BACK_S_MAX
    response = None
    while time.monotonic() < deadline and response != {"status": "ok"}:
        time.sleep(0.2)
        response = plain_http.post(
            f"{url}/v1/events", json=body | {"event_id": "after"}, timeout=30
        ).json()
        if response == {"status": "duplicate"}:
            break
    assert stored(url, "r") == {"before": 1, "after": 1}
    own_up.wait_until_ok(f"{url}/health")


def test_the_second_start_is_quick(own_up: Process) -> None:
    own_up.stop()
    began = time.monotonic()
    own_up.start()
    own_up.wait_until_ok(f"{base_url(own_up)}/health")
    assert time.monotonic() - began < SECOND_START_S_MAX
