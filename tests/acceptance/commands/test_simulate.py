"""`voltwire simulate` against the product: the counts of the fleet and HTTP must agree."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from broker.simulator.device import Behaviour, Spell, build_fleet
from broker.simulator.fleet import GOODBYE, OFFLINE, ONLINE, Fleet
from cli.main import app
from runtime.addresses import MqttAddress
from tests.acceptance.conftest import base_url
from tests.support.brokers.guarded_mosquitto import GuardedMosquitto
from tests.support.brokers.mosquitto import mosquitto
from tests.support.brokers.mqtt import RawClient, embedded_broker
from tests.support.http import plain_http
from tests.support.processes.command_run import CommandRun
from tests.support.processes.services import ForkedProcess, Process, free_port, temporary_folder

ROW = re.compile(
    r"^ (sent|stored|duplicate|rejected|waiting|unsent|resent|dropped) +(\d+) ", re.MULTILINE
)
END_S_MAX = 60  # After a signal, or after the duration.
RUN_S_MAX = 90
UNTIL_S_MAX = 60  # Devices reconnect every 15 s at the latest.


class Run(CommandRun):
    """A `voltwire simulate`."""

    def __init__(self, mqtt_port: str, *arguments: str, **settings: str) -> None:
        super().__init__(("simulate", *arguments), {"MQTT_PORT": mqtt_port, **settings}, ROW)


def simulate(up: Process, *arguments: str) -> dict[str, int]:
    """The table of a run that must end by itself and succeed."""
    with Run(up.settings["MQTT_PORT"], *arguments) as run:
        code, counts, said = run.end(RUN_S_MAX)
    assert code == 0, said
    return counts


def stored(up: Process, device_id: str) -> list[dict[str, Any]]:
    """Every stored event of a device, through all pages, oldest first; none if it is unknown."""
    url, events = base_url(up), []
    page: str | None = f"{url}/v1/devices/{device_id}/events?limit=1000"
    while page:
        response = plain_http.get(page, timeout=30)
        if response.status_code == httpx.codes.NOT_FOUND:
            return []
        events += response.raise_for_status().json()
        page = response.links.get("next", {}).get("url")
        page = page and f"{url}{page}"
    return events[::-1]


def stored_by(up: Process, prefix: str, devices: int) -> dict[str, list[dict[str, Any]]]:
    names = [f"{prefix}-{n:03}" for n in range(1, devices + 1)]
    return {name: stored(up, name) for name in names}


def presence(up: Process, device_id: str) -> Any:
    response = plain_http.get(f"{base_url(up)}/v1/devices/{device_id}/presence", timeout=30)
    return response.json().get("state")


def states(up: Process) -> Counter[str]:
    devices = plain_http.get(f"{base_url(up)}/v1/devices?limit=100", timeout=30).json()
    return Counter(device["state"] for device in devices)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + UNTIL_S_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def retained(up: Process, topic: str) -> str:
    """The retained message that a new subscriber receives."""
    received: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _userdata, message: received.append(bytes(message.payload))
    client.connect("127.0.0.1", int(up.settings["MQTT_PORT"]))
    client.loop_start()
    client.subscribe(topic, qos=1)
    until(lambda: received)
    client.disconnect()
    client.loop_stop()
    return received[0].decode()


def heard_within(up: Process, topic: str, seconds: float) -> list[bytes]:
    """What a new subscriber receives meanwhile."""
    heard: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _userdata, message: heard.append(bytes(message.payload))
    client.connect("127.0.0.1", int(up.settings["MQTT_PORT"]))
    client.loop_start()
    client.subscribe(topic, qos=1)
    time.sleep(seconds)
    client.disconnect()
    client.loop_stop()
    return heard


def assert_exactly_once(events: dict[str, list[dict[str, Any]]], sent: int) -> None:
    """Each device's events are 1, 2, 3 … without a gap, each once, and together they are all."""
    for name, found in events.items():
        ids = Counter(event["event_id"] for event in found)
        assert max(ids.values(), default=1) == 1, name
        assert [event["seq"] for event in found] == list(range(1, len(found) + 1)), name
    assert sum(len(found) for found in events.values()) == sent


def test_with_losses_and_duplicates_every_event_is_stored_exactly_once(up: Process) -> None:
    faults = ("--loss", "20", "--duplicate", "20", "--seed", "1")
    counts = simulate(up, *faults, "--duration", "2.5", "--interval", "0.25")
    assert counts["sent"] >= 20  # A busy machine sends less.
    assert counts["stored"] == counts["sent"]
    assert (counts["rejected"], counts["waiting"], counts["dropped"]) == (0, 0, 0)
    assert counts["duplicate"] > 0
    assert counts["resent"] > 0
    assert_exactly_once(stored_by(up, "sim", 20), counts["sent"])


def test_new_devices_have_a_receipt_for_every_event_from_the_first_on(up: Process) -> None:
    options = ("--devices", "50", "--interval", "0.1", "--prefix", "newborn")
    counts = simulate(up, *options, "--duration", "2")
    assert counts["sent"] == counts["stored"] >= 50
    assert_exactly_once(stored_by(up, "newborn", 50), counts["sent"])


def test_events_of_a_clock_that_is_ahead_are_rejected_and_leave_the_outbox(up: Process) -> None:
    options = ("--devices", "8", "--skew", "3000", "--seed", "1", "--prefix", "skewed")
    counts = simulate(up, *options, "--duration", "2", "--interval", "0.5")
    assert counts["rejected"] > 0
    assert counts["sent"] == counts["stored"] + counts["rejected"]
    events = stored_by(up, "skewed", 8)
    assert sum(len(found) for found in events.values()) == counts["stored"]
    assert [name for name, found in events.items() if not found], "no clock was ahead"


def test_a_sleeper_says_so_and_sends_what_it_buffered_as_one_array(up: Process) -> None:
    options = ("--devices", "3", "--interval", "0.2", "--sleep", "2", "--prefix", "sleeper")
    with Run(up.settings["MQTT_PORT"], *options, "--duration", "7") as run:
        until(lambda: presence(up, "sleeper-001") == "asleep")
        asleep = '{"state":"asleep","wake_in_s":2.0}'
        until(lambda: retained(up, "devices/sleeper-001/status") == asleep)
        code, counts, said = run.end(RUN_S_MAX)
    assert code == 0, said
    events = stored_by(up, "sleeper", 3)
    assert_exactly_once(events, counts["sent"])
    arrivals = Counter(event["received_at"] for event in events["sleeper-001"])
    assert max(arrivals.values()) >= 5
    assert retained(up, "devices/sleeper-001/status") == GOODBYE.decode()


def test_sigterm_ends_with_the_table_and_exit_code_0(up: Process) -> None:
    options = ("--devices", "3", "--interval", "0.2", "--prefix", "term")
    with Run(up.settings["MQTT_PORT"], *options) as run:
        until(lambda: len(stored(up, "term-001")) > 2)
        run.process.terminate()
        code, counts, said = run.end(END_S_MAX)
    assert (code, counts["waiting"]) == (0, 0), said
    assert_exactly_once(stored_by(up, "term", 3), counts["sent"])
    assert retained(up, "devices/term-001/status") == GOODBYE.decode()
    until(lambda: presence(up, "term-001") == "asleep")


def test_a_fleet_that_is_killed_leaves_its_wills(up: Process) -> None:
    options = ("--devices", "2", "--interval", "0.2", "--prefix", "killed")
    with Run(up.settings["MQTT_PORT"], *options) as run:
        until(lambda: stored(up, "killed-002"))
        birth = json.loads(retained(up, "devices/killed-002/status"))
        assert birth == {"state": "online", "receipts": True}
        run.process.kill()
        until(lambda: retained(up, "devices/killed-002/status") == "offline")


def test_without_an_ingestor_the_events_wait_and_the_exit_code_is_1() -> None:
    port = str(free_port())
    options = ("--devices", "2", "--interval", "0.5", "--duration", "2")
    with (
        temporary_folder() as folder,
        ForkedProcess(folder, "broker", settings={"MQTT_PORT": port}),
        Run(port, *options) as run,
    ):
        code, counts, said = run.end(RUN_S_MAX)
    assert (code, counts["sent"]) == (1, counts["waiting"]), said
    assert counts["resent"] > 0
    assert "voltwire ingest" in said.splitlines()[-1]


def test_without_a_broker_it_says_that_nothing_listens_and_what_was_not_sent() -> None:
    options = ("--devices", "2", "--interval", "0.5", "--duration", "2")
    with Run(str(free_port()), *options) as run:
        code, counts, said = run.end(RUN_S_MAX)
    assert (code, counts["sent"]) == (1, 0), said
    assert counts["unsent"] == counts["waiting"] > 0
    assert "Connection refused): start it" in said.splitlines()[-1]
    assert f"{counts['unsent']} events were not sent" in said.splitlines()[-1]


def test_a_refused_login_is_named_as_such() -> None:
    with mosquitto() as broker:
        GuardedMosquitto(broker).write()
        broker.restart()
        url = f"mqtt://someone:wrong@127.0.0.1:{broker.port}"
        with Run("1", "--devices", "1", "--duration", "1", MQTT_URL=url) as run:
            code, _, said = run.end(RUN_S_MAX)
    assert code == 1
    assert "refuses the login" in said.splitlines()[-1]
    assert "wrong" not in said


def test_with_forget_the_api_deletes_the_devices_and_no_status_stays(up: Process) -> None:
    options = ("--devices", "2", "--interval", "0.2", "--duration", "1", "--forget")
    ports = {"HTTP_PORT": up.settings["HTTP_PORT"]}
    with Run(up.settings["MQTT_PORT"], *options, "--prefix", "guest", **ports) as run:
        code, _, said = run.end(RUN_S_MAX)
    assert code == 0, said
    assert heard_within(up, "devices/guest-001/status", 1) == []
    assert plain_http.get(f"{base_url(up)}/v1/devices/guest-001").status_code == 404
    with Run(up.settings["MQTT_PORT"], *options, HTTP_PORT="1") as run:
        code, _, said = run.end(RUN_S_MAX)
    assert code == 1
    assert "2 of 2 devices are not forgotten, because the API" in said


@pytest.mark.chaos
def test_nothing_is_lost_when_broker_and_ingestor_are_killed_meanwhile(up: Process) -> None:
    options = ("--devices", "10", "--interval", "0.2", "--prefix", "outage")
    with Run(up.settings["MQTT_PORT"], *options) as run:
        until(lambda: len(stored(up, "outage-001")) > 5)
        up.kill()
        up.start()
        up.wait_until_ok(f"{base_url(up)}/health")
        # A device that has not reconnected when the fleet stops has little time for its backlog.
        back = stored_by(up, "outage", 10)
        for name, events in back.items():
            until(lambda: len(stored(up, name)) > len(events) + 10)  # noqa: B023
        run.process.terminate()
        code, counts, said = run.end(END_S_MAX)
    assert (code, counts["waiting"], counts["dropped"]) == (0, 0, 0), said
    assert_exactly_once(stored_by(up, "outage", 10), counts["sent"])


async def test_a_device_with_nothing_to_report_sends_heartbeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.simulator.fleet.HEARTBEAT_S", 0.2)
    stop = asyncio.Event()
    devices = build_fleet(
        "idle", [Behaviour(interval_s=86_400)], booted_at=datetime.now(UTC), seed=1
    )
    async with embedded_broker() as port, asyncio.TaskGroup() as group:
        listener = await RawClient.connect(port, "listener")
        await listener.subscribe("devices/+/heartbeat")
        address = MqttAddress("127.0.0.1", port, embedded=True)
        fleet = Fleet(lambda _: address, devices, payload_bytes_max=1000)
        group.create_task(fleet.run(stop, drain_s=0))
        received = [await listener.message() for _ in range(2)]
        listener.disconnect()
        stop.set()
    assert {(message.topic, message.payload) for message in received} == {
        ("devices/idle-001/heartbeat", b"")
    }


async def test_a_device_that_dies_leaves_its_will_and_comes_back() -> None:
    stop = asyncio.Event()
    spell = Spell(first_s=1, every_s=3600, lasts_s=1)
    booted_at = datetime.now(UTC)
    devices = build_fleet("mortal", [Behaviour(86_400, dead=spell)], booted_at=booted_at, seed=1)
    async with embedded_broker() as port, asyncio.TaskGroup() as group:
        listener = await RawClient.connect(port, "listener")
        await listener.subscribe("devices/+/status")
        address = MqttAddress("127.0.0.1", port, embedded=True)
        fleet = Fleet(lambda _: address, devices, payload_bytes_max=1000)
        group.create_task(fleet.run(stop, drain_s=0))
        said = [(await listener.message(UNTIL_S_MAX)).payload for _ in range(3)]
        listener.disconnect()
        stop.set()
    assert said == [ONLINE, OFFLINE, ONLINE]


@pytest.mark.parametrize(
    "misuse", [("--devices", "0"), ("--loss", "101"), ("--interval", "0"), ("--prefix", "a/b")]
)
def test_options_that_mean_nothing_are_misuse(misuse: tuple[str, str]) -> None:
    refused = CliRunner().invoke(app, ["simulate", *misuse])
    assert (refused.exit_code, misuse[0] in refused.output) == (2, True), refused.output
