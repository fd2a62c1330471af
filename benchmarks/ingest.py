"""Ingest: QoS 1 messages through Mosquitto into PostgreSQL, beside what the broker alone can do.

The load comes from a process of its own, which counts PUBACKs. The rate is that of the database: events
stored from the first to the last, by their time of arrival and the moment the last one is visible. The
same messages then go from Mosquitto to mosquitto_sub, in the same run: machines are noisy, ratios less.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import httpx

from tests.mosquitto import Mosquitto, mosquitto
from tests.services import ROOT, Process, free_port, temporary_folder

DEVICES = 1000
POLL_S = 0.05
WAIT_S_MAX = 300


@dataclass(frozen=True)
class Case:
    name: str
    messages: int
    events_per_message: int
    duplicates_percent: float = 0.0
    rule: bool = False


@dataclass(frozen=True)
class Result:
    name: str
    events: int
    events_per_s: float
    messages_per_s: float
    broker_messages_per_s: float

    @property
    def ratio(self) -> float:
        """Our messages to the broker's own, Mosquitto to mosquitto_sub."""
        return self.messages_per_s / self.broker_messages_per_s

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"ratio": self.ratio}


def cases(scale: float) -> list[Case]:
    messages, arrays = int(200_000 * scale), int(30_000 * scale)
    return [
        Case("one event a message, 1 % duplicates", messages, 1, 1.0),
        Case("the same, with a rule that nothing violates", messages, 1, 1.0, rule=True),
        Case("arrays of 20 events", arrays, 20),
    ]


def run(case: Case) -> Result:
    with mosquitto() as broker:
        alone = _broker_alone(broker, case)
        with _voltwire(broker) as base:
            if case.rule:
                rule = {"metric": "temp_c", "op": ">", "threshold": 149}
                httpx.post(f"{base}/v1/alerts", json=rule).raise_for_status()
            seconds = _ingest(broker, base, case)
    events = case.messages * case.events_per_message
    return Result(case.name, events, events / seconds, case.messages / seconds, alone)


@contextmanager
def _voltwire(broker: Mosquitto) -> Iterator[str]:
    port = free_port()
    settings = {
        "HTTP_PORT": str(port),
        "MQTT_URL": f"mqtt://127.0.0.1:{broker.port}",
        "DATA_DIR": "data",
        "LOG_LEVEL": "warning",
    }
    with temporary_folder() as folder, Process(folder, "up", settings=settings) as process:
        process.wait_until_ok(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


def _ingest(broker: Mosquitto, base: str, case: Case) -> float:
    """Seconds from the first message sent to the last device's last event visible."""
    began = time.perf_counter()
    _publish(broker, case)
    last = case.messages * case.events_per_message - 1
    device = f"d{(case.messages - 1) % DEVICES}"
    url = f"{base}/v1/devices/{device}/events?limit=1"
    while time.perf_counter() - began < WAIT_S_MAX:
        answer = httpx.get(url)
        if answer.is_success and any(int(e["event_id"]) >= last - DEVICES for e in answer.json()):
            break
        time.sleep(POLL_S)
    else:
        raise RuntimeError(f"{case.name}: not everything is stored after {WAIT_S_MAX} s")
    _wait_until_drained(base)
    return time.perf_counter() - began


def _wait_until_drained(base: str) -> None:
    """The canary is heard only when everything before it is stored."""
    while httpx.get(f"{base}/health").json()["checks"]["canary"]["status"] != "ok":
        time.sleep(POLL_S)


def _broker_alone(broker: Mosquitto, case: Case) -> float:
    program = shutil.which("mosquitto_sub")
    if program is None:
        raise RuntimeError("mosquitto_sub is missing: install Debian's mosquitto-clients.")
    command = [
        program,
        "-p",
        str(broker.port),
        "-q",
        "1",
        "-t",
        "devices/+/telemetry",
        "-C",
        str(case.messages),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as subscriber:
        time.sleep(0.3)
        began = time.perf_counter()
        _publish(broker, case)
        subscriber.wait(WAIT_S_MAX)
        return case.messages / (time.perf_counter() - began)


def _publish(broker: Mosquitto, case: Case) -> None:
    arguments = [
        broker.port,
        case.messages,
        case.events_per_message,
        DEVICES,
        case.duplicates_percent,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=WAIT_S_MAX,
    )  # fmt: skip
    acknowledged = json.loads(done.stdout)["acknowledged"]
    if acknowledged != case.messages:
        raise RuntimeError(f"{acknowledged} of {case.messages} messages got a PUBACK")
