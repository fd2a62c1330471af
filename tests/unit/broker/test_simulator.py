"""Simulated devices: what they measure, how they fail, what their outbox keeps."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.simulator.device import Battery, BatteryDevice, Behaviour, Spell, build_fleet
from broker.simulator.history import history
from broker.simulator.outbox import (
    EVENTS_MAX,
    RETRY_S_MAX,
    EventOutbox,
    ReceiptBody,
    SendCounts,
    as_payload,
    read_receipts,
    total,
)
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.strict import decode
from schema.event import MAX_ITEMS, Event, Status
from schema.instants import epoch_us

NOW = datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)
LIMITS = AcceptLimits(timedelta(days=3650), timedelta(seconds=300), 262_144)
BATTERY_RANGES = {
    "soc_percent": (0, 100),
    "voltage_v": (200, 500),
    "current_a": (-1000, 1000),
    "temp_c": (-60, 150),
}
# More than this in one second would be a jump.
STEPS_MAX = {"soc_percent": 0.25, "voltage_v": 2, "current_a": 12, "temp_c": 0.5}
ANY_SIZE = 1_000_000
STEADY = Behaviour()

seeds = st.integers(0, 2**32)


def device(behaviour: Behaviour = STEADY, seed: int = 1) -> BatteryDevice:
    return build_fleet("sim", [behaviour], booted_at=NOW, seed=seed)[0]


def due(simulated: BatteryDevice, now: float = 0) -> list[dict[str, Any]]:
    taken = simulated.outbox.take_due(now, bytes_max=ANY_SIZE)
    return [json.loads(body) for body in taken]


def outbox(*event_ids: str, events_max: int = EVENTS_MAX) -> EventOutbox:
    filled = EventOutbox(events_max)
    for event_id in event_ids:
        filled.add(event_id, event_id.encode())
    return filled


def take(kept: EventOutbox, now: float, **options: float) -> list[str]:
    return [body.decode() for body in kept.take_due(now, bytes_max=ANY_SIZE, **options)]


def receipt(event_id: str, status: Status = Status.STORED) -> ReceiptBody:
    return {"event_id": event_id, "status": status}


# Measuring


@given(seeds, st.lists(st.floats(0, 1e7), min_size=1, max_size=200))
def test_values_stay_within_the_battery_profile_whatever_the_pauses(
    seed: int, pauses_s: list[float]
) -> None:
    battery = Battery(Random(seed))
    for elapsed_s in pauses_s:
        measured = battery.step(elapsed_s)
        assert measured.keys() == BATTERY_RANGES.keys()
        for name, (low, high) in BATTERY_RANGES.items():
            assert low <= measured[name] <= high


@given(seeds)
def test_values_move_smoothly(seed: int) -> None:
    battery = Battery(Random(seed))
    measured = [battery.step(1) for _ in range(100)]
    for before, after in pairwise(measured):
        for name, step_max in STEPS_MAX.items():
            assert abs(after[name] - before[name]) <= step_max, name


@given(seeds)
def test_the_charge_falls_and_recharges_and_the_voltage_follows_it(seed: int) -> None:
    battery = Battery(Random(seed))
    measured = [battery.step(5) for _ in range(720)]  # An hour: three cycles.
    lowest = min(measured, key=lambda each: each["soc_percent"])
    highest = max(measured, key=lambda each: each["soc_percent"])
    assert lowest["soc_percent"] < 16
    assert highest["soc_percent"] > 94
    assert highest["voltage_v"] - lowest["voltage_v"] > 50


@given(seeds)
def test_the_ingestor_takes_what_a_device_measures(seed: int) -> None:
    simulated = device(seed=seed)
    for _ in range(3):
        simulated.measure(NOW)
    payload = as_payload(simulated.outbox.take_due(0, bytes_max=ANY_SIZE))
    events = decode(payload, Origin(epoch_us(NOW), simulated.device_id), LIMITS)
    assert [isinstance(event, Event) and event.seq for event in events] == [1, 2, 3]
    tags = {tuple(event.tags) for event in events if isinstance(event, Event)}
    assert len(tags) == 1
    assert tags.pop()[0].startswith("room:1")


def test_the_seed_repeats_values_and_faults_but_never_ids() -> None:
    behaviours = [Behaviour(loss_percent=30, duplicate_percent=30, skew_s_max=60)] * 3
    later = NOW + timedelta(seconds=1)
    first = build_fleet("sim", behaviours, booted_at=NOW, seed=7)
    again = build_fleet("sim", behaviours, booted_at=later, seed=7)
    other = build_fleet("sim", behaviours, booted_at=NOW, seed=8)
    for fleet in (first, again, other):
        for each in fleet:
            each.measure(NOW)
    events, repeated, others = ([due(each)[0] for each in fleet] for fleet in (first, again, other))
    assert [event["metrics"] for event in events] == [event["metrics"] for event in repeated]
    assert [event["metrics"] for event in events] != [event["metrics"] for event in others]
    assert all(a["event_id"] < b["event_id"] for a, b in zip(events, repeated, strict=True))
    copies = [[each.copies() for _ in range(20)] for each in first]
    assert copies == [[each.copies() for _ in range(20)] for each in again]
    assert copies[0] != copies[1]


@given(st.integers(1, 300), st.integers(1, 10**9))
def test_ids_and_seq_grow_within_a_boot_and_from_boot_to_boot(events: int, later_s: int) -> None:
    ids = []
    for booted_at in (NOW, NOW + timedelta(seconds=later_s)):
        simulated = build_fleet("sim", [STEADY], booted_at=booted_at, seed=1)[0]
        for _ in range(events):
            simulated.measure(NOW)
        measured = due(simulated)
        assert [event["seq"] for event in measured] == list(range(1, events + 1))
        ids += [event["event_id"] for event in measured]
    assert ids == sorted(set(ids))


def test_device_ids_have_the_prefix_and_sort_by_their_number() -> None:
    names = [each.device_id for each in build_fleet("lab", [STEADY] * 1200, booted_at=NOW, seed=1)]
    assert (names[0], names[-1]) == ("lab-0001", "lab-1200")
    assert names == sorted(set(names))


@given(seeds, st.floats(0, 1e6))
def test_a_wrong_clock_is_wrong_by_the_same_amount_all_day(seed: int, skew_s_max: float) -> None:
    simulated = device(Behaviour(skew_s_max=skew_s_max), seed)
    times = [NOW, NOW + timedelta(hours=12)]
    for now in times:
        simulated.measure(now)
    timestamps = [datetime.fromisoformat(event["timestamp"]) for event in due(simulated)]
    first, second = (stamp - now for stamp, now in zip(timestamps, times, strict=True))
    assert first == second
    assert abs(first) <= timedelta(seconds=skew_s_max, microseconds=1)


def test_a_spell_begins_and_ends_again_and_again_also_before_the_boot() -> None:
    spell = Spell(first_s=20, every_s=100, lasts_s=10)
    covered = [at_s for at_s in range(-100, 140) if spell.covers(at_s)]
    assert covered == [*range(-80, -70), *range(20, 30), *range(120, 130)]
    assert (spell.remaining_s(22), spell.remaining_s(30)) == (8, 0)
    assert (spell.next_in_s(0), spell.next_in_s(20), spell.next_in_s(29)) == (20, 100, 91)


def test_a_dead_device_measures_nothing_and_a_forgetful_one_leaves_gaps_in_seq() -> None:
    dead = device(Behaviour(dead=Spell(10, 100, 10)))
    forgetful = device(Behaviour(forgotten_percent=50))
    for at_s in range(100):
        dead.measure(NOW + timedelta(seconds=at_s))
        forgetful.measure(NOW + timedelta(seconds=at_s))
    assert [event["seq"] for event in due(dead)] == list(range(1, 91))
    left = [event["seq"] for event in due(forgetful)]
    assert 20 < len(left) < 80
    assert left == sorted(set(left))


def test_the_history_ends_at_the_boot_is_closer_the_newer_and_the_device_goes_on_from_there() -> (
    None
):
    simulated = device(Behaviour(capacity_ah=200))
    events = list(history(simulated, 30 * 86_400))
    times = [datetime.fromisoformat(event["timestamp"]) for event in events]
    steps = [after - before for before, after in pairwise(times)]
    assert times[0] == NOW - timedelta(days=30)
    assert times[-1] == NOW
    assert steps == sorted(steps, reverse=True)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    simulated.measure(NOW)
    (live,) = due(simulated)
    assert live["seq"] == len(events) + 1
    assert abs(live["metrics"]["soc_percent"] - events[-1]["metrics"]["soc_percent"]) < 1


def test_a_history_in_parts_is_the_same_and_shows_each_overheating_closely() -> None:
    behaviour = Behaviour(overheating=Spell(-60, 4 * 86_400, 90 * 60))
    whole = list(history(device(behaviour), 30 * 86_400))
    in_parts, ages = device(behaviour), (30 * 86_400, 7 * 86_400, 3600, 0)
    parts = [list(history(in_parts, older, newer)) for older, newer in pairwise(ages)]
    assert [event for part in parts for event in part] == whole
    times = [datetime.fromisoformat(event["timestamp"]) for event in whole]
    began = NOW - timedelta(days=24, seconds=60)
    chart = timedelta(minutes=45)
    shown = [time for time in times if began - chart <= time <= began + 3 * chart]
    assert {after - before for before, after in pairwise(shown)} == {timedelta(seconds=30)}
    assert len(shown) == 361


def test_a_history_is_not_older_than_asked() -> None:
    first = next(iter(history(device(), 86_400)))
    assert NOW - datetime.fromisoformat(first["timestamp"]) == timedelta(days=1)


@pytest.mark.parametrize(
    ("loss", "duplicate", "expected"), [(0, 0, {1}), (100, 100, {0}), (0, 100, {2})]
)
def test_faults_happen_as_often_as_configured(
    loss: float, duplicate: float, expected: set[int]
) -> None:
    simulated = device(Behaviour(loss_percent=loss, duplicate_percent=duplicate))
    assert {simulated.copies() for _ in range(200)} == expected


def test_a_fifth_lost_and_a_fifth_of_the_rest_doubled_is_about_that() -> None:
    simulated = device(Behaviour(loss_percent=20, duplicate_percent=20))
    copies = [simulated.copies() for _ in range(10_000)]
    assert copies.count(0) == pytest.approx(2000, rel=0.1)
    assert copies.count(2) == pytest.approx(1600, rel=0.1)


# The outbox


@pytest.mark.parametrize("status", Status)
def test_an_event_stays_until_a_receipt_says_stored_duplicate_or_rejected(status: Status) -> None:
    kept = outbox("a", "b")
    assert take(kept, 0) == ["a", "b"]
    assert len(kept) == 2
    kept.settle(receipt("a", status))
    assert len(kept) == 1
    assert take(kept, 1000) == ["b"]


def test_an_event_without_a_receipt_is_sent_again_after_2_4_8_up_to_60_seconds() -> None:
    kept = outbox("a")
    sent_at = [now for now in range(400) if take(kept, now)]
    pauses = [after - before for before, after in pairwise(sent_at)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert kept.counts == SendCounts(sent=1, resent=len(pauses))


@given(st.integers(1, 2000))
def test_the_pause_never_grows_beyond_its_limit(attempts: int) -> None:
    kept, now = outbox("a"), 0.0
    for _ in range(attempts):
        assert take(kept, now) == ["a"]
        now += RETRY_S_MAX


def test_attempts_are_at_most_retry_s_max_apart() -> None:
    kept = outbox("a")
    assert [take(kept, now, retry_s_max=1) for now in (0, 0.9, 1, 1.9, 2)] == [
        ["a"], [], ["a"], [], ["a"],
    ]  # fmt: skip


def test_after_a_reconnect_everything_without_a_receipt_is_due_again_in_order() -> None:
    kept = outbox("a", "b", "c")
    assert take(kept, 0) == ["a", "b", "c"]
    kept.settle(receipt("b"))
    kept.add("d", b"d")
    assert take(kept, 0.1) == ["d"]
    kept.make_all_due()
    assert take(kept, 0.2) == ["a", "c", "d"]


def test_one_payload_holds_at_most_a_thousand_events_and_so_many_bytes() -> None:
    kept = outbox(*(f"{n:04}" for n in range(MAX_ITEMS + 1)))
    assert len(take(kept, 0)) == MAX_ITEMS
    assert take(kept, 0) == ["1000"]
    kept = outbox("aaaa", "bbbb", "cccc")
    assert kept.take_due(0, bytes_max=12) == [b"aaaa", b"bbbb"]
    assert len(as_payload([b"aaaa", b"bbbb"])) <= 12
    assert kept.take_due(0, bytes_max=1) == [b"cccc"], "one event goes out whatever its size"


def test_a_full_outbox_drops_its_oldest_event_and_counts_it() -> None:
    kept = outbox("a", "b", "c", events_max=2)
    assert take(kept, 0) == ["b", "c"]
    assert kept.counts.dropped == 1
    kept.settle(receipt("a"))
    assert kept.counts.stored == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(Status))))
def test_every_event_sent_is_stored_rejected_known_already_or_waiting(
    receipts: list[tuple[str, Status]],
) -> None:
    kept = outbox(*"abcdef")
    take(kept, 0)
    first: dict[str, Status] = {}
    for event_id, status in receipts:
        kept.settle(receipt(event_id, status))
        first.setdefault(event_id, status)
    verdicts = list(first.values())
    assert kept.counts.stored == verdicts.count(Status.STORED)
    assert kept.counts.rejected == verdicts.count(Status.REJECTED)
    assert kept.counts.duplicate == [status for _, status in receipts].count(Status.DUPLICATE)
    assert len(kept) == 6 - len(first)


def test_counts_add_up_with_their_reasons() -> None:
    parts = [outbox("a").counts, outbox("a").counts]
    for part in parts:
        part.rejected += 1
        part.reasons["in_the_future"] += 1
    assert total(parts) == SendCounts(rejected=2, reasons=parts[0].reasons + parts[1].reasons)


# Receipts


def test_receipts_settle_events_of_this_boot_only() -> None:
    simulated = device()
    simulated.measure(NOW)
    event_id = due(simulated)[0]["event_id"]
    for other_id in ("", "auto-1", "0-00000001", event_id.replace("-", "_")):
        simulated.take_receipts(json.dumps([receipt(other_id, Status.DUPLICATE)]).encode())
    assert simulated.outbox.counts == SendCounts(sent=1)
    refused = {"event_id": event_id, "status": "rejected", "reason": "in_the_future"}
    simulated.take_receipts(json.dumps([refused]).encode())
    assert not simulated.outbox
    assert simulated.outbox.counts.reasons == {"in_the_future": 1}


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[1]", b"\xff", b'[{"event_id":"a"}]', b'[{"event_id":"a","status":"x"}]']
)  # fmt: skip
def test_a_malformed_payload_holds_no_receipts(payload: bytes) -> None:
    assert read_receipts(payload) == []


def test_a_payload_that_could_not_be_decoded_has_a_receipt_without_an_id() -> None:
    payload = b'[{"event_id":null,"status":"rejected","reason":"malformed_json"}]'
    assert read_receipts(payload)[0]["event_id"] is None
    device().take_receipts(payload)


def test_one_event_goes_as_an_object_and_several_as_one_array() -> None:
    assert as_payload([b'{"a":1}']) == b'{"a":1}'
    assert json.loads(as_payload([b'{"a":1}', b'{"a":2}'])) == [{"a": 1}, {"a": 2}]
