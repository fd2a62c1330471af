"""Without a fault nothing is lost, and the oracle finds the faults that it must find."""

import asyncio

import pytest

from tests.acceptance.chaos.conftest import Installation, Scenario, rounds
from tests.acceptance.chaos.logins import AUTH
from tests.support.brokers.guarded_mosquitto import connack
from tests.support.brokers.mqtt import connect_packet
from tests.support.http import plain_http
from tests.support.ledger.ledger import Ledger, StoredRow, compare

EVENTS_SHORT, EVENTS_LONG = 750, 5000


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_without_a_fault_everything_is_stored_once_and_the_oracle_sees_a_lost_and_a_doubled_row(
    installation: Installation, scenario: Scenario
) -> None:
    wanted = rounds(short=EVENTS_SHORT, long=EVENTS_LONG)
    with scenario.load(installation, mqtt=250, http=60) as loads:
        while len(scenario.ledger.attempted) < wanted:
            loads[0].wait(0.1)
            installation.require_conservation(settled=False)
    report = scenario.finish(installation)
    assert report.ok == report.attempted == report.rows
    (victim,) = installation.sql(
        "delete from event where (device_no, event_id) in (select device_no, event_id from event"
        " join device using (device_no) where starts_with(device_id, $1) order by 2 limit 1)"
        " returning event_id",
        scenario.ledger.prefix,
    )
    found = compare(scenario.ledger, installation.rows(scenario.ledger.prefix))
    assert {event_id for _, event_id in found.lost} == {victim["event_id"]}
    with pytest.raises(AssertionError, match="lost=1 "):
        found.require_clean()
    (twin,) = installation.sql(
        "insert into event select event.* from event join device using (device_no)"
        " where starts_with(device_id, $1) order by event_id limit 1 returning event_id",
        scenario.ledger.prefix,
    )
    found = compare(scenario.ledger, installation.rows(scenario.ledger.prefix))
    assert {event_id for _, event_id in found.duplicated} == {twin["event_id"]}
    with pytest.raises(AssertionError):
        installation.require_same_sums(scenario.ledger)


@pytest.mark.chaos_short
@pytest.mark.timeout(300)
def test_with_chaos_auth_and_only_then_both_doors_refuse_a_stranger(
    installation: Installation,
) -> None:
    response = plain_http.get(f"{installation.url}/v1/devices")
    returned = asyncio.run(connack(installation.broker.port, connect_packet("stranger")))
    assert (response.status_code, returned) == ((401, 5) if AUTH else (200, 0))


def test_a_report_distinguishes_lost_doubled_unexpected_wrong_and_recovered_events() -> None:
    ledger = Ledger("x-")
    (lost, _), (doubled, two), (wrong, _), (unknown, four) = (ledger.attempt("d") for _ in range(4))
    ledger.accept(lost, doubled, wrong)
    unregistered = ("x-d", "unregistered")
    rows = [
        StoredRow(*doubled, two), StoredRow(*doubled, two), StoredRow(*wrong, 99),
        StoredRow(*unknown, four), StoredRow(*unregistered, 1),
    ]  # fmt: skip
    report = compare(ledger, rows)
    assert (report.attempted, report.ok, report.rows) == (4, 3, 5)
    assert (*report.lost, *report.duplicated) == (lost, doubled)
    assert (*report.unexpected, *report.wrong, *report.recovered) == (unregistered, wrong, unknown)
    assert not report.clean
