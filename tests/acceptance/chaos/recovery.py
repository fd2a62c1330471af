"""The check for every fault outside our roles: they recover without help soon after its end."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from broker.client.session import RECEIVE_MAXIMUM
from tests.acceptance.chaos.conftest import Installation, Scenario, say
from tests.support.ledger.ledger import Key

RECOVERY_S_MAX = 15.0
ANSWER_S_MAX = 5.0
NOTICE_S_MAX = 10.0
POLL_S = 0.1


@contextmanager
def recovery(installation: Installation, scenario: Scenario) -> Iterator[None]:
    """Check the recovery from a fault whose cause ends with the block.

    Within 15 s all roles must be healthy and both doors must store new events, and no role may have been
    started again.
    """
    pids = _pids(installation)
    yield
    ended = time.monotonic()
    installation.until_healthy(RECOVERY_S_MAX)
    healthy_s = time.monotonic() - ended
    posted, sent = _post_until_stored(installation, scenario, ended), _send(installation, scenario)
    until(lambda: _is_stored(installation, posted), ended + RECOVERY_S_MAX, "posted")
    until(lambda: _is_stored(installation, sent), ended + RECOVERY_S_MAX, "sent over MQTT")
    say(f"healthy after {healthy_s:.1f} s, storing after {time.monotonic() - ended:.1f} s")
    assert _pids(installation) == pids


def until(condition: Callable[[], object], deadline: float, what: str) -> None:
    while not condition():
        assert time.monotonic() < deadline, f"Not in time: {what}"
        time.sleep(POLL_S)


def post(installation: Installation, scenario: Scenario) -> tuple[Key, httpx.Response]:
    """Post one new event of a separate device; it is accepted if the response is 200, else unknown."""
    key, value = scenario.ledger.attempt("probe")
    body = {"device_id": key[0], "event_id": key[1], "metrics": {"value": value}}
    response = installation.http.post("/v1/events", json=body, timeout=ANSWER_S_MAX)
    if response.status_code == httpx.codes.OK:
        scenario.ledger.accept(key)
    return key, response


def require_refused_post(installation: Installation, scenario: Scenario) -> None:
    """Post and check for 503 with Retry-After; the time limit of the request is 5 s."""
    _, response = post(installation, scenario)
    assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE, response.text
    assert int(response.headers["Retry-After"]) > 0


def until_noticed(
    installation: Installation, *names: str, check: str = "database", within_s: float = NOTICE_S_MAX
) -> None:
    """Wait until the health of these roles is 503 and names the failing check."""

    def is_failing(name: str) -> bool:
        found: dict[str, Any] = installation.health(name) or {}
        failing = found.get("code") == httpx.codes.SERVICE_UNAVAILABLE
        return failing and found["checks"][check]["status"] == "failing"

    for name in names:
        until(lambda: is_failing(name), time.monotonic() + within_s, f"health of {name}")  # noqa: B023


def publish_more_than_a_window(installation: Installation, scenario: Scenario) -> None:
    events = [scenario.ledger.attempt("burst") for _ in range(RECEIVE_MAXIMUM + 500)]
    installation.publish(
        [
            (
                f"devices/{device_id}/telemetry",
                f'{{"event_id":"{event_id}","metrics":{{"value":{value}}}}}',
            )
            for (device_id, event_id), value in events
        ],
    )
    scenario.ledger.accept(*(key for key, _ in events))


def _pids(installation: Installation) -> dict[str, int]:
    return {name: process.process.pid for name, process in installation.processes.items()}


def _post_until_stored(installation: Installation, scenario: Scenario, ended: float) -> Key:
    found: list[Key] = []

    def stored() -> bool:
        key, response = post(installation, scenario)
        found.append(key)
        return response.status_code == httpx.codes.OK

    until(stored, ended + RECOVERY_S_MAX, "a post is stored")
    return found[-1]


def _send(installation: Installation, scenario: Scenario) -> Key:
    key, value = scenario.ledger.attempt("probe")
    body = json.dumps({"event_id": key[1], "metrics": {"value": value}})
    installation.publish([(f"devices/{key[0]}/telemetry", body)])
    scenario.ledger.accept(key)
    return key


def _is_stored(installation: Installation, key: Key) -> bool:
    query = "select from event join device using (device_no) where device_id = $1 and event_id = $2"
    return bool(installation.sql(query, *key))
