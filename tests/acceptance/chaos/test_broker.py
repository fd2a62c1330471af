"""The broker is stopped, killed, emptied and flooded: what it acknowledged and kept is stored once."""

import signal
import time

import httpx
import pytest

from tests.acceptance.chaos.conftest import (
    Installation,
    Scenario,
    install,
    rounds,
    say,
    seeded,
)

QUEUE_MAX = 100
FLOOD = 8000  # The 5,000 messages in flight to the ingestor do not count as queued.
POISON, GOOD_EVERY = 6000, 20
STATE_LOST = "The broker forgot our session"
DROPPED = "voltwire_broker_dropped_messages"
REPORTED_S_MAX = 45  # sys_interval is 30 s.


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_broker_that_is_restarted_keeps_everything(
    installation: Installation, scenario: Scenario
) -> None:
    with scenario.load(installation, mqtt=80, http=10):
        for pause_s in scenario.pauses(5, 1.0, 4.0):
            time.sleep(pause_s)
            installation.broker.stop()
            time.sleep(scenario.random.uniform(0, 2))
            installation.broker.start()
    scenario.finish(installation)


@seeded
@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_broker_that_is_killed_loses_nothing_of_devices_with_an_outbox(
    installation: Installation, scenario: Scenario
) -> None:
    with scenario.load(installation, outbox=60, http=10):
        for pause_s in scenario.pauses(5, 1.0, 4.0):
            time.sleep(pause_s)
            installation.broker.kill()
            installation.broker.start()
    report = scenario.finish(installation)
    assert report.ok == report.attempted, "every event got its receipt"


@seeded
@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_a_broker_that_loses_its_state_loses_nothing_of_devices_with_an_outbox(
    installation: Installation, scenario: Scenario
) -> None:
    times = rounds(short=1, long=3)
    before = len(installation.logged("ingest", STATE_LOST))
    with scenario.load(installation, outbox=60, http=10):
        for pause_s in scenario.pauses(times, 1.0, 4.0):
            time.sleep(pause_s)
            installation.broker.kill()
            installation.broker.lose_state()
            installation.broker.start()
            until_subscribed(installation)
    report = scenario.finish(installation)
    assert report.ok == report.attempted, "every event got its receipt"
    assert len(installation.logged("ingest", STATE_LOST)) - before == times


def until_subscribed(installation: Installation) -> None:
    """Wait until the ingestor has noticed the restart and is healthy again."""
    time.sleep(0.5)
    installation.until_healthy()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_window_full_of_poison_stalls_nothing_and_each_becomes_one_dead_letter(
    installation: Installation, scenario: Scenario
) -> None:
    """More poison than max_inflight_messages waits when the ingestor returns."""
    messages: list[tuple[str, str | bytes]] = []
    for n in range(POISON):
        key, value = scenario.poisons.attempt(f"p{n % 7}")
        text = f'{{"event_id": "{key[1]}", "metrics": {{"value": "{value}"}}}}'
        messages.append((f"devices/{key[0]}/telemetry", text[: -(n % 3) or None]))
        scenario.poisons.accept(key)
        if n % GOOD_EVERY == 0:
            key, value = scenario.ledger.attempt(f"p{n % 7}")
            good = f'{{"event_id": "{key[1]}", "metrics": {{"value": {value}}}}}'
            messages.append((f"devices/{key[0]}/telemetry", good))
            scenario.ledger.accept(key)
    assert installation.terminate("ingest") == 0
    installation.publish(messages)
    installation.start("ingest")
    scenario.finish(installation)
    kept = installation.dead_letters(scenario.ledger.prefix)
    assert len(kept) == len({(row.device_id, row.event_id) for row in kept}) == POISON


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_what_a_full_queue_of_the_broker_drops_is_reported(scenario: Scenario) -> None:
    """No promise covers messages that the broker acknowledged and dropped, but the loss is reported."""
    small = {"max_queued_messages": str(QUEUE_MAX)}
    with install(broker_options=small, warm=False) as installation:
        ingest = installation.processes["ingest"].process
        ingest.send_signal(signal.SIGSTOP)
        try:
            send_a_flood(installation, scenario)
        finally:
            ingest.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + REPORTED_S_MAX
        while dropped(installation) == 0:
            assert time.monotonic() < deadline, "the loss was not reported"
            time.sleep(0.5)
        report = installation.drain(scenario.ledger, within_s=10)
        scenario.report = report
        say(report)
        assert not report.duplicated | report.unexpected | report.wrong, report
        assert dropped(installation) >= len(report.lost) > 0
        assert any(
            entry["level"] == "error" for entry in installation.logged("ingest", "dropped")
        ), installation.log("ingest")[-2000:]


def send_a_flood(installation: Installation, scenario: Scenario) -> None:
    events = [scenario.ledger.attempt("f") for _ in range(FLOOD)]
    installation.publish(
        [
            (
                f"devices/{key[0]}/telemetry",
                f'{{"event_id": "{key[1]}", "metrics": {{"value": {value}}}}}',
            )
            for key, value in events
        ],
    )
    scenario.ledger.accept(*(key for key, _ in events))


def dropped(installation: Installation) -> float:
    """The number that /metrics of the ingestor reports."""
    try:
        lines = installation.metrics("ingest").splitlines()
    except httpx.HTTPError:
        return 0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(DROPPED))
