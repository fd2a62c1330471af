"""A batch as pure state: verdicts, halves, the order of keys and of evaluation."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestor.batch import (
    REFUSED,
    Batch,
    Message,
    RejectedItem,
    Row,
    Written,
    in_order_of_evaluation,
)
from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.presence import ALIVE, BIRTH, HEARTBEAT, TELEMETRY, WILL, PresenceUpdate
from ingestor.decode.strict import decode
from schema.event import DeviceNo, Door, Event, Reason, Rejection, Status, Verdict
from schema.instants import epoch_us

properties = settings(max_examples=30, deadline=None, database=None)

ARRIVAL = datetime(2026, 2, 1, 14, 30, tzinfo=UTC)
LIMITS = AcceptLimits(timedelta(days=3650), timedelta(seconds=300), payload_bytes_max=262_144)
DEVICES = {name: DeviceNo(number) for number, name in enumerate(["a", "b", "c"], start=15)}

BORN = replace(BIRTH, receipts=True)

# (device, event_id) of a row, or the reason of a dead letter.
Spec = tuple[str, str] | Reason


def message_of(
    items: Sequence[Event | Rejection] | None = None, device_id: str | None = None
) -> Message:
    message = Message(Door.MQTT, b"[]", Origin(epoch_us(ARRIVAL), device_id), lambda _: None)
    if items is not None:
        message.decoded(list(items))
    return message


def event_of(device_id: str, event_id: str, at: float = 0) -> Event:
    ts_us = epoch_us(ARRIVAL + timedelta(seconds=at))
    return Event(device_id, event_id, ts_us, {"m": 1}, [], None, epoch_us(ARRIVAL))


def filled(messages: Sequence[Sequence[Spec]]) -> tuple[Batch, list[Message]]:
    """A batch as the writer assembles it."""
    batch, found = Batch(), []
    for order, specs in enumerate(messages):
        items = [
            Rejection(spec, "detail", b"{}", ARRIVAL, event_id="bad")
            if isinstance(spec, Reason)
            else event_of(*spec)
            for spec in specs
        ]
        message = message_of(items)
        found.append(message)
        for place, item in enumerate(items):
            if isinstance(item, Rejection):
                batch.dead_letters.append(RejectedItem(item, message, place))
            else:
                number = DEVICES[item.device_id]
                batch.rows.append(Row(number, item, message, place, order))
                batch.add_signal(number, f"d{number}", TELEMETRY if order % 2 else BORN)
    return batch, found


SPECS = st.tuples(st.sampled_from(list(DEVICES)), st.sampled_from("123")) | st.sampled_from(
    [Reason.BAD_METRICS, Reason.BAD_TIME]
)
MESSAGES = st.lists(st.lists(SPECS, min_size=1, max_size=5), max_size=6)


def key_of(row: Row) -> tuple[DeviceNo, str]:
    return row.device_no, row.event.event_id


# -- Verdicts. --


@properties
@given(MESSAGES, st.data())
def test_the_first_of_equal_keys_is_stored_and_every_item_gets_its_verdict(
    specs: list[list[Spec]], data: st.DataObject
) -> None:
    batch, messages = filled(specs)
    keys = sorted({key_of(row) for row in batch.rows})
    new = set(data.draw(st.lists(st.sampled_from(keys), unique=True))) if keys else set()
    seen: set[tuple[DeviceNo, str]] = set()
    expected = []
    for of_message in specs:
        for spec in of_message:
            if isinstance(spec, Reason):
                expected.append(Verdict("bad", Status.REJECTED, spec, "detail"))
                continue
            key = (DEVICES[spec[0]], spec[1])
            stored = key in new and key not in seen
            seen.add(key)
            expected.append(Verdict(spec[1], Status.STORED if stored else Status.DUPLICATE))
    batch.settle(Written({(int(number), event_id) for number, event_id in new}))
    assert [verdict for message in messages for verdict in message.verdicts] == expected


def test_two_devices_may_use_the_same_event_id() -> None:
    batch, (message,) = filled([[("a", "1"), ("b", "1")]])
    batch.settle(Written({(DEVICES["a"], "1"), (DEVICES["b"], "1")}))
    assert [verdict.status for verdict in message.verdicts] == [Status.STORED, Status.STORED]


def test_settling_leaves_what_the_store_returned_untouched() -> None:
    batch, _ = filled([[("a", "1")]])
    new: set[tuple[int, str]] = {(DEVICES["a"], "1")}
    batch.settle(Written(new))
    batch.settle(Written(new))
    assert new == {(DEVICES["a"], "1")}


# -- Keys and lanes. --


@properties
@given(MESSAGES)
def test_first_rows_hold_each_key_once_sorted_and_the_first_to_come(
    specs: list[list[Spec]],
) -> None:
    batch, _ = filled(specs)
    first = batch.first_rows()
    assert list(first) == sorted({key_of(row) for row in batch.rows})
    for key, row in first.items():
        assert row is next(row for row in batch.rows if key_of(row) == key)


@properties
@given(st.lists(st.integers(1, 1000)), st.lists(st.integers(1, 1000)))
def test_lanes_are_those_of_rows_and_signals_ascending_and_each_once(
    of_rows: list[int], of_signals: list[int]
) -> None:
    batch = Batch()
    for number in of_rows:
        batch.rows.append(Row(DeviceNo(number), event_of("a", "1"), message_of(), 0, 0))
    for number in of_signals:
        batch.add_signal(DeviceNo(number), f"d{number}", HEARTBEAT)
    assert batch.lanes == sorted({number % 16 for number in of_rows + of_signals})


def test_signals_of_a_device_are_merged() -> None:
    batch = Batch()
    batch.add_signal(DeviceNo(1), "d1", WILL)
    batch.add_signal(DeviceNo(2), "d2", WILL)
    batch.add_signal(DeviceNo(1), "d1", TELEMETRY)
    assert batch.presence == {DeviceNo(1): ALIVE, DeviceNo(2): PresenceUpdate(will=True)}


def test_what_a_birth_says_last_of_receipts_is_kept_until_another_birth_says_so() -> None:
    batch = Batch()
    batch.add_signal(DeviceNo(1), "d1", BORN)
    batch.add_signal(DeviceNo(2), "d2", BORN)
    batch.add_signal(DeviceNo(3), "d3", BIRTH)
    batch.add_signal(DeviceNo(1), "d1", replace(BIRTH, receipts=False))
    batch.add_signal(DeviceNo(2), "d2", TELEMETRY)
    batch.add_signal(DeviceNo(2), "d2", WILL)
    assert batch.receipts == {DeviceNo(1): False, DeviceNo(2): True}


# -- Halves. --


@properties
@given(MESSAGES.filter(lambda specs: len(filled(specs)[0].rows) > 1), st.data())
def test_halves_keep_every_row_dead_letter_and_signal_exactly_once(
    specs: list[list[Spec]], data: st.DataObject
) -> None:
    batch, _ = filled(specs)
    rows, rejected, signals = list(batch.rows), list(batch.dead_letters), dict(batch.presence)
    receipts = dict(batch.receipts)
    suspect = data.draw(st.none() | st.integers(0, len(rows) - 1))
    halves = list(batch.halves(suspect))
    assert [row for half in halves for row in half.rows] == rows
    assert [item for half in halves for item in half.dead_letters] == rejected
    assert Counter(number for half in halves for number in half.presence) == Counter(
        dict.fromkeys(signals, 1)
    )
    assert {
        number: signal for half in halves for number, signal in half.presence.items()
    } == signals
    assert [half.receipts for half in halves if half.receipts] == [receipts] * bool(receipts)
    assert all(0 < len(half.rows) < len(rows) for half in halves), "halving must come to an end"
    if suspect is not None:
        assert [rows[suspect]] in [half.rows for half in halves]


@properties
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), min_size=1)),
    st.data(),
)
def test_halving_down_to_one_row_gives_the_verdicts_of_the_whole_except_for_the_bad_row(
    specs: list[list[Spec]], data: st.DataObject
) -> None:
    """The writer's bisection against a store that refuses one row."""
    batch, messages = filled(specs)
    bad = data.draw(st.sampled_from(batch.rows)) if batch.rows else None
    stored: set[tuple[int, str]] = set()
    rejected: list[RejectedItem] = []
    updated: Counter[DeviceNo] = Counter()

    def write(piece: Batch) -> None:
        if bad in piece.rows:
            if len(piece.rows) > 1:
                guess = st.none() | st.integers(0, len(piece.rows) - 1)
                for half in piece.halves(data.draw(guess)):
                    write(half)
                return
            piece.to_dead_letter()
        new = {key_of(row) for row in piece.rows} - stored
        stored.update(new)
        rejected.extend(piece.dead_letters)
        updated.update(piece.presence.keys())
        piece.settle(Written(set(new)))

    signals = dict.fromkeys(batch.presence, 1)
    write(batch)
    assert updated == Counter(signals)
    taken: set[tuple[int, str]] = set()
    for message in messages:
        for item, verdict in zip(message.items or [], message.verdicts, strict=True):
            assert isinstance(item, Event)
            if bad is not None and item is bad.event:
                assert verdict.status is Status.REJECTED
                assert verdict.reason is Reason.REFUSED_BY_DATABASE
                continue
            key = (DEVICES[item.device_id], item.event_id)
            assert verdict.status is (Status.DUPLICATE if key in taken else Status.STORED)
            taken.add(key)
    assert len(rejected) == (bad is not None)


def test_a_refused_row_becomes_a_dead_letter_with_its_own_item() -> None:
    items = [{"event_id": f"e{n}", "metrics": {"m": n}} for n in range(3)]
    payload = json.dumps(items).encode()
    message = Message(Door.MQTT, payload, Origin(epoch_us(ARRIVAL), "a"), lambda _: None)
    message.decoded(decode(payload, message.origin, LIMITS))
    event = (message.items or [])[2]
    assert isinstance(event, Event)
    batch = Batch([Row(DEVICES["a"], event, message, 2, 0)])
    batch.to_dead_letter()
    assert batch.rows == []
    (item,) = batch.dead_letters
    assert json.loads(item.rejection.payload) == items[2]
    assert item.rejection.item == item.place == 2
    batch.settle(Written(set()))
    assert message.verdicts[2] == Verdict(
        "e2", Status.REJECTED, Reason.REFUSED_BY_DATABASE, REFUSED
    )


# -- The order of evaluation. --


@properties
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc"))), st.randoms()
)
def test_events_are_evaluated_by_message_then_time_then_event_id(
    places: list[tuple[int, int, str]], random: Any
) -> None:
    message = message_of()
    rows = [
        Row(DeviceNo(1), event_of("a", event_id, at), message, 0, order)
        for order, at, event_id in places
    ]
    random.shuffle(rows)
    ordered = in_order_of_evaluation(rows)
    found = [
        (row.order, (row.event.ts - ARRIVAL).total_seconds(), row.event.event_id) for row in ordered
    ]
    assert found == sorted((order, float(at), event_id) for order, at, event_id in places)


# -- Messages. --


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_door_is_called_once_after_the_last_part(parts: int) -> None:
    called: list[Message] = []
    message = Message(Door.HTTP, b"", Origin(epoch_us(ARRIVAL)), called.append, open_parts=parts)
    for _ in range(parts - 1):
        assert not message.part_done()
        assert called == []
    assert message.part_done()
    assert called == [message]


def test_the_topic_names_the_device_of_a_message_and_over_http_its_items_do() -> None:
    items = [event_of("a", "1"), event_of("b", "1"), event_of("a", "2")]
    unnamed = Rejection(Reason.NOT_AN_OBJECT, "", b"5", ARRIVAL)
    named = Rejection(Reason.BAD_TIME, "", b"{}", ARRIVAL, device_id="c")
    assert message_of(items, "a").devices == {"a"}
    assert message_of(None, "a").devices == {"a"}
    assert message_of([*items, unnamed, named]).devices == {"a", "b", "c"}
    assert message_of([]).devices == set()
