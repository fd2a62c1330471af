"""Our processes are killed, stopped and frozen under load: no event is lost or duplicated."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.chaos.conftest import (
    Installation,
    Scenario,
    install,
    rounds,
    seeded,
)
from tests.support.processes.failpoints import AFTER_COMMIT, BEFORE_COMMIT
from tests.support.processes.services import Process

STOP_S_MAX = 10
FREEZE_S = 45  # Mosquitto closes the connection after 1.5 times the keep-alive of 15 s.


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    process.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.process.send_signal(signal.SIGCONT)


@seeded
@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_kill_9_of_the_ingestor_at_random_times(
    installation: Installation, scenario: Scenario
) -> None:
    with scenario.load(installation, mqtt=80, http=10):
        for pause_s in scenario.pauses(rounds(short=2, long=20), 0.2, 2.5):
            time.sleep(pause_s)
            installation.kill("ingest")
            installation.start("ingest")
    scenario.finish(installation)


@pytest.mark.parametrize("point", [BEFORE_COMMIT, AFTER_COMMIT])
@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_a_kill_around_the_commit_redelivers_the_batch_and_stores_it_once(
    installation: Installation, scenario: Scenario, point: str
) -> None:
    program = ("-m", "tests.support.processes.failpoints", point)
    # The values grow at the rate of the load, so the rate of a device swings around its threshold.
    rule_id = add_rule(installation, condition="rate", threshold=5000, notify="change")
    with scenario.load(installation, mqtt=80, http=10):
        for batches in range(rounds(short=1, long=6)):
            time.sleep(0.5)
            installation.kill("ingest")
            installation.processes["ingest"].settings["FAIL_AFTER_BATCHES"] = str(batches * 3)
            installation.start("ingest", program=program)
            assert installation.wait_for_end("ingest", 90) == -signal.SIGKILL
            installation.start("ingest")
    scenario.finish(installation)
    require_each_transition_once(installation, rule_id)
    installation.http.delete(f"/v1/alerts/{rule_id}").raise_for_status()


def require_each_transition_once(installation: Installation, rule_id: str) -> None:
    """Each incident was notified once when it fired and once when it resolved, and one follows the other."""
    (counts,) = installation.sql(
        "with sent as (select (body ->> 'incident_id')::bigint as incident_id,"
        "   count(*) filter (where state = 'firing') as firing,"
        "   count(*) filter (where state = 'resolved') as resolved"
        "   from outbox join feed using (block) where rule_id = $1 group by 1)"
        " select count(*) as incidents, count(*) filter (where sent.firing is distinct from 1"
        "   or sent.resolved is distinct from (resolved_at is not null)::int) as wrong,"
        " count(*) filter (where resolved_at is null and exists (select from incident newer"
        "   where newer.device_no = incident.device_no and newer.rule_id = $1"
        "     and newer.incident_id > incident.incident_id)) as overtaken"
        " from incident left join sent using (incident_id) where rule_id = $1",
        rule_id,
    )
    assert counts["incidents"] > 0
    assert (counts["wrong"], counts["overtaken"]) == (0, 0)


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_what_was_committed_but_not_acknowledged_is_redelivered_and_counts_once(
    installation: Installation, scenario: Scenario
) -> None:
    """The backlog of the killed ingestor is one batch per writer; each event also fires one alert."""
    rules = [add_rule(installation, device_id=f"{scenario.ledger.prefix}m{n}") for n in range(7)]
    installation.kill("ingest")
    with scenario.load(installation, mqtt=200):
        time.sleep(1)
    installation.processes["ingest"].settings["FAIL_AFTER_BATCHES"] = "0"
    installation.start("ingest", program=("-m", "tests.support.processes.failpoints", AFTER_COMMIT))
    assert installation.wait_for_end("ingest", 90) == -signal.SIGKILL
    assert installation.rows(scenario.ledger.prefix), "it was committed"
    installation.start("ingest")
    report = scenario.finish(installation)
    counts = installation.sql(
        "select count(*) as alerts, count(distinct (device_id, body->>'event_id')) as events"
        " from outbox join feed using (block) where rule_id = any($1)",
        rules,
    )
    of_devices = report.rows - 1  # The last event is that of drain.
    assert [tuple(row) for row in counts] == [(of_devices, of_devices)]


def add_rule(installation: Installation, **changes: Any) -> str:
    rule = {"metric": "value", "op": ">", "threshold": 0} | changes
    response = installation.http.post("/v1/alerts", json=rule).raise_for_status()
    return str(response.json()["id"])


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_sigterm_of_the_ingestor_under_load_ends_in_time_with_exit_code_0(
    installation: Installation, scenario: Scenario
) -> None:
    with scenario.load(installation, mqtt=80, http=10):
        for pause_s in scenario.pauses(20, 0.0, 2.0):
            installation.until_healthy()  # Before it handles signals, SIGTERM ends it with another exit code.
            time.sleep(pause_s)
            began = time.monotonic()
            assert installation.terminate("ingest") == 0, installation.log("ingest")[-2000:]
            assert time.monotonic() - began < STOP_S_MAX
            installation.start("ingest")
    scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_kill_9_of_api_and_scheduler_under_load(
    installation: Installation, scenario: Scenario
) -> None:
    with scenario.load(installation, mqtt=40, http=80):
        for pause_s in scenario.pauses(20, 0.2, 2.5):
            time.sleep(pause_s)
            role = scenario.random.choice(["api", "schedule"])
            installation.kill(role)
            installation.start(role)
    report = scenario.finish(installation)
    assert report.ok == report.attempted, "every post was answered in the end"


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_kill_9_of_up_with_a_broker_and_a_database_of_its_own_operator(scenario: Scenario) -> None:
    with install(roles=["up"]) as installation:
        with scenario.load(installation, mqtt=60, http=20):
            for pause_s in scenario.pauses(10, 0.5, 3.0):
                time.sleep(pause_s)
                installation.kill("up")
                installation.start("up")
        scenario.finish(installation)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_an_ingestor_frozen_for_longer_than_the_keep_alive(
    installation: Installation, scenario: Scenario
) -> None:
    with scenario.load(installation, mqtt=80, http=10):
        time.sleep(2)
        with frozen(installation.processes["ingest"]):
            time.sleep(FREEZE_S)
        time.sleep(2)
    scenario.finish(installation)
