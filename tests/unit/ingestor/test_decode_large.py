"""Large batches: the same verdicts as those of the small path, and no long step."""

import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.decode.large import LargeDecoder, TooManyItemsError, split
from ingestor.decode.strict import decode, reject
from schema.event import Event, Reason, Rejection
from tests.unit.ingestor.test_decode import (
    FAULTS,
    GOOD,
    HTTP,
    ITEMS,
    LIMITS,
    TOPIC,
    properties,
    verdict,
)

MIB = 1 << 20
DECODER = LargeDecoder(LIMITS, 8 * MIB)


def large(payload: bytes | str) -> list[Event | Rejection]:
    raw = payload.encode() if isinstance(payload, str) else payload
    items, source = DECODER.decode(raw, TOPIC)
    for item in items:
        if isinstance(item, Event):
            assert source is not None
            letter = reject(item, source, Reason.OUT_OF_RANGE, "")
            assert json.loads(letter.payload) == json.loads(raw.rstrip(b"\0"))[item.item or 0]
    return items


def without_place(item: Event | Rejection) -> tuple[Any, ...]:
    """Of a fault of the text only the reason: its place counts from the item."""
    if isinstance(item, Rejection) and item.item is None:
        return (item.reason,)
    return (*verdict(item), item.item)


def assert_same(payload: bytes | str) -> None:
    raw = payload.encode() if isinstance(payload, str) else payload
    small = decode(raw, TOPIC, LIMITS)
    assert list(map(without_place, large(raw))) == list(map(without_place, small))


@properties
@given(st.lists(ITEMS, max_size=5), st.sampled_from([None, 1]), st.sampled_from(["", "\n", "\0"]))
def test_the_large_path_gives_the_verdicts_of_the_small_one(
    items: list[Any], indent: int | None, end: str
) -> None:
    assert_same(json.dumps(items, indent=indent) + end)
    assert_same(json.dumps(items, ensure_ascii=False) + end)


@properties
@given(st.text('[]{},:"\\\\ 1ae\0', max_size=30))
def test_arbitrary_brackets_and_quotes_get_the_same_verdict(noise: str) -> None:
    assert_same(f"[{noise}]")
    assert_same(f'[{json.dumps(GOOD)},{{"metrics":{{"a":1}},"x":{noise}}}]')


@pytest.mark.parametrize(("reason", "item", "origin"), [f for f in FAULTS if f[2] is TOPIC])
def test_every_fault_of_an_event_is_found(reason: Reason, item: Any, origin: Any) -> None:
    assert_same(json.dumps([GOOD, item, GOOD]))


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b"[ \n ]",
        b"[,]",
        b"[1,]",
        b"[,1]",
        b"[1,,1]",
        b"[1 2]",
        b"[1}",
        b"[{]",
        b"[{]}",
        b"[1]]",
        b"[1] x",
        b"[1",
        b"[",
        b'["a',
        b'["a\\"]',
        b'["a\\\\"]',
        b'[{"metrics":{"a":NaN}}]',
        b"\xef\xbb\xbf[1]",
        b'[{"x":"\xff"}]',
        b"[[1],[2]]",
        b"nonsense",
        b"[" * 5000 + b"]" * 5000,
        b'[{"metrics":{"a":1},"x":' + b"[" * 197 + b"]" * 197 + b"}]",
        b'[{"metrics":{"a":1},"x":' + b"[" * 199 + b"]" * 199 + b"}]",
        b'[{"metrics":{"a":1},"seq":' + b"9" * 5000 + b"}]",
        b'[{"metrics":{"a":1}}' + b',{"a":[{"b":[{"c":"]}"}]}]}' * 90 + b"]",
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_the_frame_of_an_array_is_checked_as_strictly(payload: bytes) -> None:
    assert_same(payload)


def test_an_object_is_no_array() -> None:
    (rejection,) = large(json.dumps(GOOD))
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.NOT_AN_ARRAY


def test_an_item_that_would_be_too_large_alone_is_too_large_in_a_batch() -> None:
    items = [GOOD, GOOD | {"x": "x" * LIMITS.payload_bytes_max}, GOOD]
    first, between, last = DECODER.decode(json.dumps(items).encode(), HTTP)[0]
    assert isinstance(between, Rejection)
    assert (between.reason, between.item) == (Reason.TOO_LARGE, 1)
    assert len(between.payload) == 1024
    assert isinstance(first, Rejection), "over HTTP it names no device"
    assert (last.item, first.item) == (2, 0)


def test_item_1001_ends_the_reading_at_once() -> None:
    assert len(split(b"[" + b"1," * 999 + b"1]")) == 1000
    payload = b"[" + b"{}," * 2_700_000 + b"{}]"
    assert min(refusal_s(payload) for _ in range(RUNS)) < 0.05
    (rejection,) = DECODER.decode(payload, TOPIC)[0]
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.TOO_MANY_ITEMS


def refusal_s(payload: bytes) -> float:
    began = time.process_time()
    with pytest.raises(TooManyItemsError):
        split(payload)
    return time.process_time() - began


HOSTILE = [
    b"[[" + b"{}," * 2_600_000 + b"{}]]",
    b'["' + b'\\"' * 4_000_000 + b'"]',
    b'["' + b"\\\\" * 4_000_000 + b'"]',
    b"[" + b'"",' * 900 + b'"' + b"x" * 8_000_000 + b'"]',
    b"[" + b" " * 8_300_000 + b"]",
    b"[" * 8_300_000,
    b"[[" + b'{"":{"":{"":{}}}},' * 100_000 + b"1]]",
    b"[[" + b'"",' * 2_600_000 + b"1]]",
]


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:12]))
def test_no_step_of_a_hostile_batch_holds_the_interpreter(payload: bytes) -> None:
    """Measured as the most CPU that was used while another thread, the event loop, could not run.

    One good run is enough: on a busy machine that thread also waits for its turn.
    """
    assert any(longest_hold(payload) < HELD_S_MAX for _ in range(RUNS))


def longest_hold(payload: bytes) -> float:
    worker = threading.Thread(target=DECODER.decode, args=(payload, TOPIC))
    worker.start()
    longest, last = 0.0, time.process_time()
    while worker.is_alive():
        time.sleep(0.001)
        now = time.process_time()
        longest, last = max(longest, now - last), now
    return longest


RUNS = 3
HELD_S_MAX = 0.25  # On an idle machine under 0.05.
