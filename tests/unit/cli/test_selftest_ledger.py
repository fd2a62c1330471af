"""The ledger of a selftest: each kind of error of the API has its own column."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.simulator.outbox import ReceiptBody
from cli.selftest.ledger import Comparison, DeviceReading, Ledger, StoredRow, compare, percentile
from cli.selftest.plan import Entry, Plan, Submission, make_plan
from cli.selftest.report import findings, verdict
from schema.event import Door, Status

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
NAME = "selftest-x-1"


def plan(events: int = 20, devices: int = 1, seed: int = 1, bytes_max: int = 262_144) -> Plan:
    return make_plan(
        "x", NOW, events=events, devices=devices, seed=seed, payload_bytes_max=bytes_max
    )


def answered(
    entries: Sequence[Entry], status: Status = Status.STORED, reason: str | None = None
) -> list[ReceiptBody]:
    responses = [ReceiptBody(event_id=entry.event_id, status=status) for entry in entries]
    if reason is not None:
        responses = [response | {"reason": reason} for response in responses]
    return responses


def ledger_of(plan: Plan) -> Ledger:
    """A ledger in which every verdict is stored."""
    ledger = Ledger(plan.entries)
    for entry in plan.entries:
        ledger.record(Submission(entry.door, (entry,)), answered([entry]), 0.01)
    return ledger


def rows_of(entries: Sequence[Entry]) -> list[StoredRow]:
    return [StoredRow(entry.event_id, entry.value, entry.ts) for entry in entries]


def reading_of(rows: Sequence[StoredRow]) -> DeviceReading:
    """A reading whose aggregate matches its rows."""
    values = [row.value for row in rows if row.value is not None]
    return DeviceReading(rows, len(values), sum(values))


def counts(outcome: Comparison) -> tuple[int, int, int, int]:
    return outcome.lost, outcome.duplicated, outcome.unexpected, outcome.recovered


def test_what_is_returned_as_it_was_sent_is_clean() -> None:
    sent = plan()
    outcome = compare(ledger_of(sent), {NAME: reading_of(rows_of(sent.entries))})
    assert (outcome.clean, outcome.findings) == (True, [])
    assert verdict(ledger_of(sent), outcome, 30) is None


def test_an_acknowledged_event_that_is_not_returned_is_lost() -> None:
    sent = plan()
    outcome = compare(ledger_of(sent), {NAME: reading_of(rows_of(sent.entries[1:]))})
    assert counts(outcome) == (1, 0, 0, 0)
    assert outcome.findings == [f"lost: event 0000001 of {NAME}"]
    assert "1 events are lost" in (verdict(ledger_of(sent), outcome, 30) or "")


def test_a_device_that_nobody_knows_has_lost_everything() -> None:
    outcome = compare(ledger_of(plan()), {NAME: DeviceReading((), 0, 0)})
    assert counts(outcome) == (40, 0, 0, 0)
    assert findings(outcome)[-1] == "and 30 more"


def test_each_time_beyond_the_first_is_a_duplicate() -> None:
    sent = plan()
    rows = rows_of([*sent.entries, sent.entries[0], sent.entries[0]])
    outcome = compare(ledger_of(sent), {NAME: reading_of(rows)})
    assert counts(outcome) == (0, 2, 0, 0)
    assert outcome.findings == [f"returned 3 times: event 0000001 of {NAME}"]


@pytest.mark.parametrize(
    "strange",
    [
        StoredRow("0000001", 2, NOW - timedelta(milliseconds=40)),
        StoredRow("0000001", None, NOW - timedelta(milliseconds=40)),
        StoredRow("0000001", 1, NOW),
        StoredRow("nobody", 1, NOW),
    ],
    ids=["another value", "no value", "another time", "another id"],
)
def test_an_event_that_was_never_sent_like_that_is_unexpected(strange: StoredRow) -> None:
    sent = plan()
    known = strange.event_id == "0000001"
    rows = [strange, *rows_of(sent.entries[1 if known else 0 :])]
    assert counts(compare(ledger_of(sent), {NAME: reading_of(rows)})) == (0, 0, 1, 0)


def test_an_event_of_another_device_is_lost_there_and_unexpected_here() -> None:
    sent = plan(devices=2)
    one, two = (
        [entry for entry in sent.entries if entry.device_id == name] for name in sent.device_ids
    )
    readings = {
        sent.device_ids[0]: reading_of(rows_of([*one, two[0]])),
        sent.device_ids[1]: reading_of(rows_of(two[1:])),
    }
    assert counts(compare(ledger_of(sent), readings)) == (1, 0, 1, 0)


def test_a_returned_event_without_an_answer_is_recovered_and_a_missing_one_is_not_lost() -> None:
    sent = plan()
    outcome = compare(Ledger(sent.entries), {NAME: reading_of(rows_of(sent.entries[:3]))})
    assert counts(outcome) == (0, 0, 0, 3)
    ledger = Ledger(sent.entries)
    assert "40 events have no response after 30 s (20 over MQTT, 20 over HTTP)" in (
        verdict(ledger, outcome, 30) or ""
    )


def test_an_aggregate_shows_what_the_list_does_not() -> None:
    sent = plan()
    rows = rows_of(sent.entries)
    right = reading_of(rows)
    for wrong, expected in (
        (replace(right, count=right.count + 1, sum=right.sum + 1), (0, 1, 0, 0)),
        (replace(right, count=right.count - 2, sum=right.sum - 3), (2, 0, 0, 0)),
        (replace(right, sum=right.sum + 1), (0, 0, 1, 0)),
    ):
        outcome = compare(ledger_of(sent), {NAME: wrong})
        assert counts(outcome) == expected
        assert "the aggregate of" in outcome.findings[0]


def test_a_rejected_event_is_reported_with_its_reason_and_must_not_be_returned() -> None:
    sent = plan()
    ledger = Ledger(sent.entries)
    everything = Submission(Door.MQTT, sent.entries)
    ledger.record(everything, answered(sent.entries, Status.REJECTED, "in_the_future"), 0.1)
    assert not ledger.unanswered
    outcome = compare(ledger, {NAME: DeviceReading((), 0, 0)})
    assert outcome.clean
    assert "40 events were rejected (in_the_future 40)" in (verdict(ledger, outcome, 30) or "")
    outcome = compare(ledger, {NAME: reading_of(rows_of(sent.entries[:1]))})
    assert counts(outcome) == (0, 0, 1, 0)


def test_one_positive_verdict_is_enough_whatever_a_copy_received() -> None:
    sent = plan()
    ledger = ledger_of(sent)
    ledger.record(
        Submission(Door.HTTP, sent.entries), answered(sent.entries, Status.DUPLICATE), 0.1
    )
    first = sent.entries[:1]
    ledger.record(Submission(Door.HTTP, first), answered(first, Status.REJECTED, "bad_time"), 0.1)
    assert (len(ledger.acknowledged), ledger.recognised, ledger.rejected) == (40, 40, {})


def test_every_planned_event_travels_over_its_door_and_some_over_both() -> None:
    sent = plan(events=500, devices=5)
    by_door: dict[Door, Counter[str]] = {door: Counter() for door in Door}
    for submission in sent.submissions:
        by_door[submission.door].update(submission.event_ids)
    for entry in sent.entries:
        assert by_door[entry.door][entry.event_id] >= 1
    assert set(by_door[Door.MQTT]) & set(by_door[Door.HTTP])
    assert max(by_door[Door.MQTT].values()) > 1 < max(by_door[Door.HTTP].values())
    assert len({entry.value for entry in sent.entries}) == 1000
    assert all(sent.start <= entry.ts < sent.end for entry in sent.entries)
    assert sent.copies == sum(sum(each.values()) for each in by_door.values()) - 1000


@pytest.mark.parametrize("events", [1, 2, 500])
@pytest.mark.parametrize("devices", [1, 7])
def test_messages_are_of_one_device_and_small_enough_and_posts_spare_the_rate_limit(
    events: int, devices: int
) -> None:
    sent = plan(events, devices, bytes_max=1024)
    for submission in sent.over(Door.MQTT):
        assert len({entry.device_id for entry in submission.entries}) == 1
        assert len(submission.payload) <= 1024
    for name in sent.device_ids:
        singles = [each for each in sent.over(Door.HTTP, name) if len(each.entries) == 1]
        assert len(singles) <= 10
    assert sum(len(sent.over(Door.MQTT, name)) for name in sent.device_ids) == len(
        sent.over(Door.MQTT)
    )


def test_the_seed_decides_how_the_events_travel() -> None:
    assert plan(seed=7) == plan(seed=7)
    assert plan(seed=7).submissions != plan(seed=8).submissions


def test_percentiles_are_the_nearest_rank() -> None:
    seconds = [0.1 * n for n in range(1, 101)]
    assert (percentile(seconds, 50), percentile(seconds, 99)) == (5.0, 9.9)
    assert percentile([0.3], 99) == 0.3
