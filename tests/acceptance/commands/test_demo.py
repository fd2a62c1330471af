"""`voltwire up --demo` as a visitor sees it: history, live devices, alerts, commands to try."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import base_url, running_up
from tests.support.http import plain_http
from tests.support.processes.services import Process

UNTIL_S_MAX = 120
CURL = re.compile(r"^  (curl .*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def demo(data_folder: Path) -> Iterator[Process]:
    """A history of one day is enough here."""
    with running_up("--demo", data=data_folder, MAX_EVENT_AGE_DAYS="1") as process:
        yield process


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + UNTIL_S_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def get(demo: Process, path: str) -> Any:
    return plain_http.get(f"{base_url(demo)}{path}", timeout=30).json()


def states(demo: Process) -> Counter[str]:
    return Counter(each["state"] for each in get(demo, "/v1/devices?limit=100"))


def said(demo: Process) -> str:
    return demo.log.read_text()


def older_events(demo: Process, device_id: str, before: str) -> int:
    query = f"metric=temp_c&device_id={device_id}&interval=1d&from_time=2026-01-01T00:00:00Z"
    buckets = get(demo, f"/v1/metrics/aggregate?{query}&to_time={before}")
    return sum(bucket["count"] for bucket in buckets)


def test_the_page_comes_first_and_20_devices_with_names_and_a_history_send_live(
    demo: Process,
) -> None:
    until(lambda: "Try these" in said(demo))
    assert said(demo).index(f"{base_url(demo)}/\n") < said(demo).index("day of history")
    until(lambda: states(demo)["asleep"] == 3 and states(demo)["online"] >= 16)
    devices = {each["device_id"]: each for each in get(demo, "/v1/devices?limit=100")}
    assert len(devices) == 20
    assert devices["demo-001"]["name"] == "Forklift 1"
    assert devices["demo-020"]["tags"] == ["site:rotterdam"]
    oldest = get(demo, "/v1/devices/demo-005/events?limit=1000")[-1]
    assert oldest["received_at"] > oldest["timestamp"]
    span = "from_time=2026-01-01T00:00:00Z&to_time=2100-01-01T00:00:00Z"
    assert get(demo, f"/v1/devices/demo-004/gaps?{span}")[0]["missing"] > 0
    assert get(demo, "/v1/rejected") == []


def test_a_rule_fires_soon(demo: Process) -> None:
    until(lambda: firing(demo, "Pack too warm"))


def firing(demo: Process, name: str) -> list[Any]:
    incidents = get(demo, "/v1/incidents?state=firing")
    return [each for each in incidents if each["rule_name"] == name]


def test_the_commands_that_it_shows_work_as_they_are(demo: Process) -> None:
    until(lambda: "Try these" in said(demo))
    aggregate, post = CURL.findall(said(demo))[:2]
    assert json.loads(pasted(aggregate))[0]["count"] > 0
    assert json.loads(pasted(post)) == {"status": "ok"}


def pasted(command: str) -> str:
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    return ran.stdout


def test_a_second_start_doubles_nothing(demo: Process) -> None:
    until(lambda: states(demo)["online"] >= 16)
    newest = get(demo, "/v1/devices/demo-005/events?limit=1")[0]["timestamp"]
    before = older_events(demo, "demo-005", newest)
    assert demo.stop() == 0, said(demo)[-2000:]
    demo.start()
    until(lambda: "have a history already" in said(demo))
    assert older_events(demo, "demo-005", newest) == before
    rules = get(demo, "/v1/alerts")
    assert len({rule["name"] for rule in rules}) == len(rules) == 2
    assert "Traceback" not in said(demo)
