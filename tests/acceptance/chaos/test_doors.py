"""Both doors at once, and clocks that step: one event is one row, whatever happens."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from broker.simulator.outbox import read_receipts
from tests.acceptance.chaos.conftest import Installation, Scenario, install
from tests.support.brokers.login import Login
from tests.support.ledger.payload_mix import PayloadMix
from tests.support.processes.services import temporary_folder

COPIES, EVENTS = 50, 8
RECEIPTS_S_MAX = 60
STEPS = ("+3600", "+0", "-3600", "+0")
STEP_S = 6
OFFLINE_S_MAX = 25
WITHOUT_OWN_TIME = PayloadMix(
    own_time=False
)  # To a clock that is behind, correct times are in the future.


class ReceiptDevice:
    """Publishes copies of one event and collects the receipt of each."""

    def __init__(self, port: int, login: Login) -> None:
        self._topic = f"devices/{login.client_id}"
        self._statuses: list[str] = []
        self._client = login.client()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"{self._topic}/receipts", qos=1)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, body: bytes, copies: int) -> None:
        for _ in range(copies):
            self._client.publish(f"{self._topic}/telemetry", body, qos=1)

    def take_statuses(self, count: int) -> list[str]:
        """Return the statuses of `count` receipts, within 10 s."""
        deadline = time.monotonic() + RECEIPTS_S_MAX
        while len(self._statuses) < count:
            assert time.monotonic() < deadline, self._statuses
            time.sleep(0.02)
        taken, self._statuses = self._statuses, []
        return taken

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        self._statuses += [
            str(receipt["status"]) for receipt in read_receipts(bytes(message.payload))
        ]


@contextmanager
def device_with_receipts(installation: Installation, device_id: str) -> Iterator[ReceiptDevice]:
    birth = '{"state":"online","receipts":true}'
    installation.publish([(f"devices/{device_id}/status", birth)])
    wanted = "select 1 from device where device_id = $1 and receipts"
    deadline = time.monotonic() + RECEIPTS_S_MAX
    while not installation.sql(wanted, device_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (login,) = installation.logins.devices([device_id])
    device = ReceiptDevice(installation.broker.port, login)
    try:
        yield device
    finally:
        device.close()


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_one_event_fifty_times_over_both_doors_is_one_row_and_one_alert(
    installation: Installation, scenario: Scenario
) -> None:
    """Half of the copies are posted, half published, all at once."""
    device_id = f"{scenario.ledger.prefix}d"
    metric = f"hot-{device_id}"
    rule = {"device_id": device_id, "metric": metric, "op": ">", "threshold": 30}
    made = installation.http.post("/v1/alerts", json=rule).raise_for_status().json()
    with (
        device_with_receipts(installation, device_id) as device,
        ThreadPoolExecutor(COPIES) as crowd,
    ):
        for _ in range(EVENTS):
            key, value = scenario.ledger.attempt("d")
            event = {"event_id": key[1], "metrics": {"value": value, metric: 40}}
            posts = [
                crowd.submit(post, installation, event | {"device_id": device_id})
                for _ in range(COPIES // 2)
            ]
            device.publish(json.dumps(event).encode(), COPIES // 2)
            responses = [each.result() for each in posts] + device.take_statuses(COPIES // 2)
            assert Counter(responses) == {"stored": 1, "duplicate": COPIES - 1}
            scenario.ledger.accept(key)
    scenario.finish(installation)
    alerts = installation.sql(
        "select body->>'event_id' as event_id, body->>'incident_id' as incident from outbox"
        " join feed using (block) where kind = 'alert' and rule_id = $1 order by 1",
        made["id"],
    )
    alerted = [row["event_id"] for row in alerts]
    assert alerted == sorted(name for owner, name in scenario.ledger.ok if owner == device_id)
    assert len({row["incident"] for row in alerts}) == 1
    incidents = installation.sql("select 1 from incident where rule_id = $1", made["id"])
    assert len(incidents) == 1


def post(installation: Installation, event: dict[str, Any]) -> str:
    status = str(
        installation.http.post("/v1/events", json=event, timeout=10)
        .raise_for_status()
        .json()["status"]
    )
    return "stored" if status == "ok" else status


class Clock:
    """The wall clock of processes started with `settings`; their monotonic clocks stay correct."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.step("+0")
        command = ["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"]
        library = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        self.settings = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, offset: str) -> None:
        """Set the offset from real time, in seconds with a sign; the rename makes it atomic."""
        new = self._file.with_suffix(".new")
        new.write_text(offset)
        new.rename(self._file)


@pytest.fixture
def clock() -> Iterator[Clock]:
    if which("faketime") is None:
        reason = "faketime is not installed: as root, make test installs it."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with temporary_folder() as folder:
        yield Clock(folder)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_an_ingestor_whose_clock_steps_by_an_hour_and_back(
    scenario: Scenario, clock: Clock
) -> None:
    with install(roles=["api", "schedule"], warm=False) as installation:
        installation.add("ingest", settings=clock.settings)
        installation.warm_up()
        with scenario.load(installation, mqtt=60, http=10, mix=WITHOUT_OWN_TIME):
            for offset in STEPS:
                time.sleep(STEP_S)
                clock.step(offset)
            time.sleep(STEP_S)
            assert not notified_states(installation, scenario) & {"late", "offline"}
        report = scenario.finish(installation)
        assert report.ok == report.attempted
        hours = installation.sql(
            "select distinct round(extract(epoch from received_at - now()) / 3600)::int as hour"
            " from event join device using (device_no) where starts_with(device_id, $1)",
            f"{scenario.ledger.prefix}m",
        )
        assert {row["hour"] for row in hours} == {-1, 0, 1}, "the clock did step"


def notified_states(installation: Installation, scenario: Scenario) -> set[str]:
    rows = installation.sql(
        "select distinct state from outbox where kind = 'presence' and starts_with(device_id, $1)",
        scenario.ledger.prefix,
    )
    return {row["state"] for row in rows}


@pytest.mark.parametrize("offset", ["+3600", "-3600"])
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_scheduler_whose_clock_steps_by_an_hour_still_finds_silent_devices(
    scenario: Scenario, clock: Clock, offset: str
) -> None:
    with install(roles=["ingest", "api"], warm=False) as installation:
        installation.add("schedule", settings=clock.settings)
        installation.until_healthy()
        with scenario.load(installation, mqtt=20):
            time.sleep(2)
            clock.step(offset)
            time.sleep(3)
            sleeper = f"{scenario.ledger.prefix}sleeper"
            asleep = (f"devices/{sleeper}/status", '{"state":"asleep","wake_in_s":1}')
            installation.publish([asleep])
            query = "select state from presence join device using (device_no) where device_id = $1"
            deadline = time.monotonic() + OFFLINE_S_MAX
            while [row["state"] for row in installation.sql(query, sleeper)] != ["offline"]:
                assert time.monotonic() < deadline, "presence is no longer evaluated"
                time.sleep(0.5)
        scenario.finish(installation)
