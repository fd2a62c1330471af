"""Two processes of one role: one works, or both without duplicate notifications; the other takes over."""

import json
import time
from collections.abc import Sequence
from typing import Self

import paho.mqtt.client as mqtt
import psutil
import pytest

from schema.locks import RELAY
from tests.acceptance.chaos.conftest import Installation, Scenario, install, seeded
from tests.acceptance.chaos.logins import SUBSCRIBER

SUCCESSOR_S_MAX = 15
DEVICES, CYCLES = 30, 4
TRANSITION_S_MAX = (
    25  # Offline after 10 s of silence, notified within 5 s, a successor within 15 s.
)


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_of_two_ingestors_of_one_instance_one_works_and_the_other_takes_over(
    scenario: Scenario,
) -> None:
    pair = ("ingest", "standby")
    with install() as installation:
        installation.add("standby", "ingest")
        with scenario.load(installation, mqtt=60, http=10):
            for pause_s in scenario.pauses(8, 1.0, 4.0):
                time.sleep(pause_s)
                victim = until_one_works(installation, pair)
                installation.kill(victim)
                other = next(name for name in pair if name != victim)
                assert until_one_works(installation, (other,)) == other
                installation.start(victim)
            time.sleep(5)
            working = until_one_works(installation, pair)
        idle = next(name for name in pair if name != working)
        assert not installation.logged(idle, "The connection to the broker was lost.")[-1:]
        installation.remove(idle)
        scenario.finish(installation)


def until_one_works(installation: Installation, names: tuple[str, ...]) -> str:
    """Return the healthy one of these, within 15 s; a standby is not healthy, and two must never be."""
    deadline = time.monotonic() + SUCCESSOR_S_MAX
    while True:
        working = [name for name in names if is_healthy(installation, name)]
        if len(working) == 1:
            return working[0]
        assert len(working) <= 1, "both work"
        assert time.monotonic() < deadline, [installation.health(name) for name in names]
        time.sleep(0.1)


def is_healthy(installation: Installation, name: str) -> bool:
    return (installation.health(name) or {}).get("code") == 200


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_with_two_schedulers_each_transition_is_notified_once_and_the_second_takes_over(
    scenario: Scenario,
) -> None:
    """Devices fall silent and return while the scheduler that publishes is killed again and again."""
    schedulers = ("schedule", "second")
    sleepers = [f"{scenario.ledger.prefix}s{n}" for n in range(DEVICES)]
    with (
        install() as installation,
        Subscriber(installation, "presence/+") as subscriber,
    ):
        installation.add("second", "schedule")
        installation.until_healthy()
        with scenario.load(installation, mqtt=20, http=5):
            for _ in range(CYCLES):
                publish_status(installation, sleepers, '{"state":"asleep","wake_in_s":1}')
                kill_the_publishing_one(installation, scenario, schedulers)
                until_all_are(installation, sleepers, "offline")
                publish_status(installation, sleepers, "online")
                until_all_are(installation, sleepers, "online")
        scenario.finish(installation)
        notified = installation.sql(
            "select device_id, array_agg(state order by id) as states, array_agg(id) as ids from"
            " (select device_id, state, feed.first_id + outbox.n as id from outbox"
            "  join feed using (block) where kind = 'presence' and starts_with(device_id, $1)) notified"
            " group by 1",
            f"{scenario.ledger.prefix}s",
        )
        one_cycle = ["asleep", "late", "offline", "online"]
        assert {row["device_id"]: row["states"] for row in notified} == dict.fromkeys(
            sleepers, one_cycle * CYCLES
        )
        subscriber.until_received({number for row in notified for number in row["ids"]})


def kill_the_publishing_one(
    installation: Installation, scenario: Scenario, schedulers: tuple[str, ...]
) -> None:
    """Kill it around the moment at which the sweep finds the silent devices."""
    time.sleep(scenario.random.uniform(8, 11))
    victim = until_one_publishes(installation, schedulers)
    installation.kill(victim)
    rest = tuple(name for name in schedulers if name != victim)
    until_one_publishes(installation, rest)
    installation.start(victim)


def until_one_publishes(installation: Installation, names: tuple[str, ...]) -> str:
    """Return which of these holds the lease of the relay, within 15 s, by the port of its connection."""
    deadline = time.monotonic() + SUCCESSOR_S_MAX
    while True:
        ports = installation.sql(
            "select client_port from pg_locks join pg_stat_activity using (pid)"
            " where locktype = 'advisory' and classid = $1 and granted",
            RELAY,
        )
        for name in names:
            process = psutil.Process(installation.processes[name].process.pid)
            own = {each.laddr.port for each in process.net_connections("tcp") if each.laddr}
            if own & {row["client_port"] for row in ports}:
                return name
        assert time.monotonic() < deadline, names
        time.sleep(0.1)


def publish_status(installation: Installation, devices: Sequence[str], status: str) -> None:
    installation.publish([(f"devices/{name}/status", status) for name in devices])


def until_all_are(installation: Installation, devices: Sequence[str], state: str) -> None:
    deadline = time.monotonic() + TRANSITION_S_MAX
    query = "select state from presence join device using (device_no) where device_id = any($1)"
    while {row["state"] for row in installation.sql(query, list(devices))} != {state}:
        assert time.monotonic() < deadline, state
        time.sleep(0.2)


class Subscriber:
    """Records the feed numbers of all messages on some topics."""

    def __init__(self, installation: Installation, topic: str) -> None:
        self._ids: set[int] = set()
        self._client = installation.logins.key(SUBSCRIBER).client()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", installation.broker.port)
        self._client.subscribe(topic, qos=1)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def until_received(self, ids: set[int], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not ids <= self._ids:
            assert time.monotonic() < deadline, f"never received: {sorted(ids - self._ids)[:9]}"
            time.sleep(0.1)

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        if message.payload:
            self._ids.add(json.loads(message.payload)["id"])
