"""The scheduler dies between sending to a channel and noting it: nothing is skipped, and order stays."""

import json
import threading
import time
from typing import Any

import pytest

from tests.acceptance.chaos.conftest import Installation, Scenario, install, seeded
from tests.acceptance.chaos.recovery import until
from tests.support.http.receivers import SECRET, WebhookReceiver, webhook_receiver

KILLS, TURNS = 6, 4
DELIVERED_S_MAX = 90


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_scheduler_killed_between_sending_and_noting_skips_no_notification(
    scenario: Scenario,
) -> None:
    settings = {"NOTIFY_PRIVATE_ADDRESSES": "true"}
    with install(settings=settings) as installation, webhook_receiver() as hook:
        create(installation, "/v1/channels", {"name": "ops", "url": hook.url, "secret": SECRET})
        rule = {"metric": "heat", "op": ">", "threshold": 50, "channels": ["ops"]}
        create(installation, "/v1/alerts", rule)
        seen: list[tuple[str, Any]] = []
        for _ in range(KILLS):
            response = threading.Event()
            hook.before_response = response.wait
            swing(installation, scenario)
            seen.append(hook.next())  # It is sent, and the scheduler waits for the response.
            time.sleep(scenario.random.choice([0, 0, 0.3]))
            installation.kill("schedule")
            response.set()
            hook.before_response = lambda: None
            installation.start("schedule")
        wanted = notified(installation)
        until(
            lambda: collect(hook, seen) >= set(wanted),
            time.monotonic() + DELIVERED_S_MAX,
            "every notification is delivered",
        )
    require_order(seen, wanted)


def create(installation: Installation, path: str, body: dict[str, Any]) -> None:
    installation.http.post(path, json=body, timeout=30).raise_for_status()


def swing(installation: Installation, scenario: Scenario) -> None:
    """A few devices go above the threshold and come back."""
    device = f"{scenario.ledger.prefix}hot{scenario.random.randrange(3)}"
    values = [60, 40] * TURNS
    messages = [
        (
            f"devices/{device}/telemetry",
            json.dumps({"event_id": f"{time.time_ns()}", "metrics": {"heat": v}}),
        )
        for v in values
    ]
    installation.publish(messages)


def notified(installation: Installation) -> list[int]:
    """The numbers of what the channel must get, in order, once everything is stored."""
    deadline, query = (
        time.monotonic() + DELIVERED_S_MAX,
        (
            "select feed.first_id + outbox.n as id from outbox join feed using (block)"
            " where channels @> array['ops'] order by 1"
        ),
    )
    until(lambda: len(installation.sql(query)) == KILLS * TURNS * 2, deadline, "all is notified")
    return [row["id"] for row in installation.sql(query)]


def collect(hook: WebhookReceiver, seen: list[tuple[str, Any]]) -> set[int]:
    while not hook.received.empty():
        seen.append(hook.received.get())
    return {number for _, body in seen for number in numbers(body)}


def numbers(body: Any) -> list[int]:
    """Of one notification, or of a group of them."""
    data = body["data"]
    return [each["id"] for each in data["alerts"]] if "alerts" in data else [data["id"]]


def require_order(seen: list[tuple[str, Any]], wanted: list[int]) -> None:
    """Without its repeats, what arrived is what was notified, in that order."""
    arrived: list[int] = []
    for _, body in seen:
        arrived += [number for number in numbers(body) if number not in arrived]
    assert arrived == wanted
    assert len(seen) > len({message_id for message_id, _ in seen}), "no kill came in between"
