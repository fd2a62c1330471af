"""Payloads by docs/http-api.md#posting-events: what becomes of one before any query."""

import json
import math
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as altered

from ingestor.decode.acceptance import AcceptLimits, Origin, outside_window
from ingestor.decode.fast import FastDecoder
from ingestor.decode.strict import Items, decode, decode_item, reject
from runtime.settings import Settings
from schema.event import Event, Reason, Rejection
from schema.instants import epoch_us

properties = settings(max_examples=30, deadline=None, database=None)

ARRIVAL = datetime(2026, 2, 1, 14, 30, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIMITS = AcceptLimits(timedelta(days=3650), timedelta(seconds=300), payload_bytes_max=262_144)
TOPIC = Origin(epoch_us(ARRIVAL), "deviceA")
HTTP = Origin(epoch_us(ARRIVAL))
GOOD: dict[str, Any] = {"event_id": "e001", "metrics": {"soc_percent": 67.5}}
UNDER_OTHER_LIMITS = {Reason.OLDER_THAN_RETENTION}
SAID_AFTER_DECODING = {
    Reason.BAD_STATUS,
    Reason.NOT_AN_ARRAY,
    Reason.OUT_OF_RANGE,
    Reason.REFUSED_BY_DATABASE,
    Reason.UNREADABLE,
}


def decoded(
    payload: bytes | str, origin: Origin = TOPIC, limits: AcceptLimits = LIMITS
) -> list[Event | Rejection]:
    """By both decoders, which must agree about everything but the ids that chance gives."""
    raw = payload.encode() if isinstance(payload, str) else payload
    found, again = decode(raw, origin, limits), FastDecoder(limits).decode(raw, origin)
    assert list(map(without_chance, again)) == list(map(without_chance, found))
    for one, other in zip(found, again, strict=True):
        if isinstance(one, Event) and isinstance(other, Event):
            assert repr(one.metrics) == repr(other.metrics), "30 and 30.0 are written differently"
    return found


def without_chance(item: Event | Rejection) -> Event | Rejection:
    if isinstance(item, Event) and item.event_id.startswith("random-"):
        return altered(item, event_id="random-")
    return item


def decoded_item(item: Any, origin: Origin = TOPIC) -> Event | Rejection:
    (result,) = decoded(json.dumps(item), origin)
    return result


def event(item: Any, origin: Origin = TOPIC) -> Event:
    result = decoded_item(item, origin)
    assert isinstance(result, Event), result
    return result


def refused(item: Any, origin: Origin = TOPIC) -> Rejection:
    result = decoded_item(item, origin)
    assert isinstance(result, Rejection), result
    return result


def text_refused(payload: bytes | str, origin: Origin = TOPIC) -> Rejection:
    """The one rejection of a payload whose text is at fault."""
    (result,) = decoded(payload, origin)
    assert isinstance(result, Rejection), result
    assert result.item is None
    return result


def verdict(result: Event | Rejection) -> tuple[Any, ...]:
    """What does not depend on where the item stood. A random id says only that it is random."""
    if isinstance(result, Rejection):
        return result.reason, result.detail, result.device_id, result.event_id
    event_id = "random" if result.event_id.startswith("random-") else result.event_id
    return event_id, result.device_id, result.ts, result.metrics, result.tags, result.seq


def at(instant: datetime) -> str:
    return instant.isoformat()


# Items of every kind: good ones, ones with faults, and things that are no events at all.
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=5,
)
GOOD_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).map(
        lambda text: text[:128]
    ),
    "device_id": st.just("deviceA"),
    "timestamp": st.sampled_from(["2026-02-01T14:23:45Z", "2026-02-01 14:23:45.25"]),
    "ts": st.integers(1_769_000_000_000, 1_769_955_000_000),
    "age_ms": st.integers(0, 10**9),
    "tags": st.lists(st.text("ab:", min_size=1, max_size=3), max_size=3),
    "seq": st.integers(0, 2**53 - 1),
}
METRICS = st.dictionaries(st.text("abc._:/%-", min_size=1, max_size=4), NUMBERS, min_size=1)
ITEMS = JSON_VALUES | st.fixed_dictionaries(
    {"metrics": METRICS | JSON_VALUES},
    optional={name: good | JSON_VALUES for name, good in GOOD_FIELDS.items()},
)
EVENTS = st.fixed_dictionaries(
    {"metrics": METRICS},
    optional={name: GOOD_FIELDS[name] for name in ("event_id", "ts", "tags", "seq")},
)


# -- The pipeline's first promise: decode answers, whatever comes. --


@properties
@given(st.binary() | st.binary().map(lambda noise: b'{"metrics":{"a":1},"x":"' + noise + b'"}'))
def test_arbitrary_bytes_get_an_answer(payload: bytes) -> None:
    assert len(decoded(payload)) >= 1
    assert len(decoded(payload, HTTP)) >= 1


class Panic(BaseException):
    """As a parser written in Rust raises it."""


@pytest.mark.parametrize("fault", [RecursionError, SystemError, OverflowError, Panic])
def test_a_fault_of_the_parser_costs_its_payload_and_nothing_else(
    fault: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("ingestor.decode.text.from_json", fail)
    (rejection,) = decoded(b"[1]")
    assert isinstance(rejection, Rejection)
    assert (rejection.reason, rejection.payload) == (Reason.UNREADABLE, b"[1]")


@properties
@given(JSON_VALUES | ITEMS | st.lists(ITEMS, max_size=4))
def test_arbitrary_json_gets_one_answer_per_item(document: Any) -> None:
    results = decoded(json.dumps(document))
    if isinstance(document, list) and document:
        assert [result.item for result in results] == list(range(len(document)))
    else:
        assert [result.item for result in results] == [None]


@properties
@given(st.lists(ITEMS, min_size=1, max_size=6), st.sampled_from([TOPIC, HTTP]))
def test_the_verdict_on_an_item_does_not_depend_on_its_neighbours(
    items: list[Any], origin: Origin
) -> None:
    together = decoded(json.dumps(items), origin)
    alone = [decoded(json.dumps([item]), origin)[0] for item in items]
    assert [verdict(result) for result in together] == [verdict(result) for result in alone]
    for item, result in zip(items, together, strict=True):
        if not isinstance(item, list):  # Alone, an array is an array of items.
            assert verdict(decoded_item(item, origin)) == verdict(result)


@properties
@given(EVENTS)
def test_both_doors_give_the_same_verdict_on_the_same_event(item: dict[str, Any]) -> None:
    with_device = item | {"device_id": "deviceA"}
    assert verdict(decoded_item(with_device, HTTP)) == verdict(decoded_item(item, TOPIC))
    assert verdict(decoded_item(with_device, TOPIC)) == verdict(decoded_item(item, TOPIC))


@properties
@given(st.lists(ITEMS, min_size=1, max_size=4))
def test_the_dead_letter_of_an_array_item_is_that_item_with_its_index(items: list[Any]) -> None:
    for result in decoded(json.dumps(items)):
        if isinstance(result, Rejection):
            assert result.item is not None
            assert json.loads(result.payload) == items[result.item]


# -- Faults of the text refuse the whole payload as one. --


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" \n\t ",
        b"\xff",
        b'{"metrics":{"a":1},"x":"\xff"}',
        b'{"metrics":{"a":1},"\xc3\x28":1}',
        b'{"metrics":{"a":1},"x":"\xc0\x80"}',
        b'{"metrics":{"a":1},"x":"\xed\xa0\x80"}',
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode("utf-8-sig"),
        b'{"metrics":{"a":1}',
        b'{"metrics":{"a":1},}',
        b'[{"metrics":{"a":1}},]',
        b"{'metrics':{'a':1}}",
        b'{metrics:{"a":1}}',
        b'{"metrics":{"a":01}}',
        b'{"metrics":{"a":.5}}',
        b'{"metrics":{"a":5.}}',
        b'{"metrics":{"a":+5}}',
        b'{"metrics":{"a":0x10}}',
        b'{"metrics":{"a":1}/* */}',
        b'{"metrics":{"a":1},"event_id":"a\x01"}',
        b'{"metrics":{"a":1},"event_id":"a\nb"}',
        b'{"metrics":{"a":1},"event_id":"\\ud800"}',
        b'{"metrics":{"a":1},"event_id":"\\udc00"}',
        b'{"metrics":{"a":1},"tags":["\\ud800x"]}',
        b'{"metrics":{"\\udfff":1}}',
        b'{"metrics":{"a":1},"unknown":{"\\ud800":1}}',
        b'{"metrics":{"a":1},"event_id":"\\x41"}',
        b'{"metrics":{"a":1}} x',
        b'{"metrics":{"a":1}}{"metrics":{"a":1}}',
        b'{"metrics":{"a":1}}\n{"metrics":{"a":1}}',
        b'\x00{"metrics":{"a":1}}',
        b'{"metrics":{"a":1}}\x00 {}',
        b"\x00\x00",
        b'{"metrics":{"a":NaNs}}',
        b'{"metrics":{"a":1NaN}}',
        b'{"metrics":{NaN:1}}',
        b'{"metrics":{"a":NaN},}',
        b'\x0b{"metrics":{"a":1}}',
        b'{"metrics":{"a":1}}\xc2\xa0',
        b"[" * 100_000,
        b"[" * 5000 + b"]" * 5000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'[{"metrics":{"a":1}},' + b"[" * 5000 + b"]" * 5000 + b"]",
    ],
    ids=lambda payload: repr(payload[:44]),
)
def test_a_fault_of_the_text_refuses_the_payload_as_one(payload: bytes) -> None:
    for origin in (TOPIC, HTTP):
        rejection = text_refused(payload, origin)
        assert rejection.reason is Reason.MALFORMED_JSON
        assert rejection.detail.startswith("not JSON: ")
        assert FOREIGN.search(rejection.detail) is None, rejection.detail
        assert rejection.payload == payload
        assert rejection.device_id == origin.device_id
        assert rejection.received_at == ARRIVAL


def test_white_space_around_the_value_is_no_fault() -> None:
    (result,) = decoded(f" \t\r\n{json.dumps(GOOD)}\r\n\t ")
    assert isinstance(result, Event)


def test_an_array_holds_1_to_1000_items() -> None:
    assert text_refused("[]").reason is Reason.NO_ITEMS
    assert len(decoded(json.dumps([GOOD] * 1000))) == 1000
    rejection = text_refused(json.dumps([GOOD] * 1001))
    assert rejection.reason is Reason.TOO_MANY_ITEMS
    assert "more than 1000 items" in rejection.detail


def test_of_an_oversize_payload_the_first_1024_bytes_are_kept() -> None:
    exactly = json.dumps(GOOD).encode().ljust(LIMITS.payload_bytes_max)
    (result,) = decoded(exactly)
    assert isinstance(result, Event)
    rejection = text_refused(exactly + b" ")
    assert rejection.reason is Reason.TOO_LARGE
    assert rejection.payload == exactly[:1024]
    assert rejection.device_id == "deviceA"


# -- Faults of an event refuse that event alone. --

FAULTS: list[tuple[Reason, Any, Origin]] = [
    (Reason.NOT_AN_OBJECT, None, TOPIC),
    (Reason.NOT_AN_OBJECT, 5, TOPIC),
    (Reason.NOT_AN_OBJECT, "event", TOPIC),
    (Reason.NOT_AN_OBJECT, True, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": ""}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "x" * 129}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": 5}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": None}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": ["e"]}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "a\0b"}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "a\n"}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "\x1f"}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "\x7f"}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "\x80"}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "a\x85b"}, TOPIC),
    (Reason.BAD_EVENT_ID, GOOD | {"event_id": "\x9f"}, TOPIC),
    (Reason.BAD_DEVICE_ID, GOOD, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": None}, TOPIC),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": 7}, TOPIC),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": ""}, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": ".hidden"}, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": "a/b"}, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": "a+"}, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": "a\n"}, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": "gerät"}, HTTP),
    (Reason.BAD_DEVICE_ID, GOOD | {"device_id": "a" * 129}, HTTP),
    (Reason.DEVICE_MISMATCH, GOOD | {"device_id": "deviceB"}, TOPIC),
    (Reason.DEVICE_MISMATCH, GOOD | {"device_id": "devicea"}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timestamp": "yesterday"}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timestamp": "2026-02-01"}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timestamp": "2026-02-01T14:23:45 01:00"}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timestamp": 1_769_955_825}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timestamp": None}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timeStamp": "yesterday"}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"timeStamp": None}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"ts": None}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"ts": True}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"ts": 1_769_955_825_000.5}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"ts": "1769955825000"}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"ts": 10**18}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"ts": -(10**400)}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"age_ms": None}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"age_ms": False}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"age_ms": -1}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"age_ms": 0.5}, TOPIC),
    (Reason.BAD_TIME, GOOD | {"age_ms": 10**400}, TOPIC),
    (Reason.SEVERAL_TIMES, GOOD | {"ts": 1_769_955_825_000, "age_ms": 0}, TOPIC),
    (Reason.SEVERAL_TIMES, GOOD | {"timestamp": at(ARRIVAL), "timeStamp": at(ARRIVAL)}, TOPIC),
    (Reason.SEVERAL_TIMES, GOOD | {"timestamp": at(ARRIVAL), "ts": 1_769_955_825_000}, TOPIC),
    (Reason.TOO_OLD, GOOD | {"timestamp": "1999-12-31T23:59:59Z"}, TOPIC),
    (Reason.TOO_OLD, GOOD | {"ts": -1}, TOPIC),
    (Reason.TOO_OLD, GOOD | {"age_ms": 3650 * 86_400_000 + 1}, TOPIC),
    (Reason.IN_THE_FUTURE, GOOD | {"timestamp": "2026-02-02T14:30:00Z"}, TOPIC),
    (Reason.IN_THE_FUTURE, GOOD | {"timeStamp": "9999-12-31T23:59:59Z"}, TOPIC),
    (Reason.BAD_METRICS, {"event_id": "e"}, TOPIC),
    (Reason.BAD_METRICS, GOOD | {"metrics": None}, TOPIC),
    (Reason.BAD_METRICS, GOOD | {"metrics": {}}, TOPIC),
    (Reason.BAD_METRICS, GOOD | {"metrics": [1]}, TOPIC),
    (Reason.BAD_METRICS, GOOD | {"metrics": 5}, TOPIC),
    (Reason.BAD_METRICS, GOOD | {"metrics": {f"m{n}": n for n in range(257)}}, TOPIC),
    (Reason.BAD_METRIC_NAME, GOOD | {"metrics": {"": 1}}, TOPIC),
    (Reason.BAD_METRIC_NAME, GOOD | {"metrics": {"m" * 129: 1}}, TOPIC),
    (Reason.BAD_METRIC_NAME, GOOD | {"metrics": {"a b": 1}}, TOPIC),
    (Reason.BAD_METRIC_NAME, GOOD | {"metrics": {"a\n": 1}}, TOPIC),
    (Reason.BAD_METRIC_NAME, GOOD | {"metrics": {"\0": 1}}, TOPIC),
    (Reason.BAD_METRIC_NAME, GOOD | {"metrics": {"température": 1}}, TOPIC),
    (Reason.BAD_METRIC_VALUE, GOOD | {"metrics": {"a": True}}, TOPIC),
    (Reason.BAD_METRIC_VALUE, GOOD | {"metrics": {"a": False}}, TOPIC),
    (Reason.BAD_METRIC_VALUE, GOOD | {"metrics": {"a": "5"}}, TOPIC),
    (Reason.BAD_METRIC_VALUE, GOOD | {"metrics": {"a": None}}, TOPIC),
    (Reason.BAD_METRIC_VALUE, GOOD | {"metrics": {"a": {"b": 1}}}, TOPIC),
    (Reason.BAD_METRIC_VALUE, GOOD | {"metrics": {"a": 10**400}}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": None}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": "room:101"}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": {"room": 101}}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": [None]}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": [5]}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": [""]}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": ["t" * 129]}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": ["a\0b"]}, TOPIC),
    (Reason.BAD_TAGS, GOOD | {"tags": ["t"] * 33}, TOPIC),
    (Reason.BAD_SEQ, GOOD | {"seq": None}, TOPIC),
    (Reason.BAD_SEQ, GOOD | {"seq": True}, TOPIC),
    (Reason.BAD_SEQ, GOOD | {"seq": "17"}, TOPIC),
    (Reason.BAD_SEQ, GOOD | {"seq": 0.5}, TOPIC),
    (Reason.BAD_SEQ, GOOD | {"seq": -1}, TOPIC),
    (Reason.BAD_SEQ, GOOD | {"seq": 2**53}, TOPIC),
    (Reason.UNKNOWN_FIELD, {"metrics": {"a": 1}, "eventId": "e1"}, TOPIC),
    (Reason.UNKNOWN_FIELD, {"metrics": {"a": 1}, "event-id": "e1"}, TOPIC),
    (Reason.UNKNOWN_FIELD, {"event_id": "e1", "Metrics": {"a": 1}}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"TimeStamp": "2026-02-01T14:23:45Z"}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"Timestamp": "2026-02-01T14:23:45Z"}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"time_stamp": "2026-02-01T14:23:45Z"}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"TS": 1_769_955_825_000}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"Age_Ms": 5}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"Time": "2026-02-01T14:23:45Z"}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"time": 1_769_955_825}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"date_time": None}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"date": "2026-02-01"}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"Tags": ["a"]}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"Seq": 5}, TOPIC),
    (Reason.UNKNOWN_FIELD, GOOD | {"deviceId": "deviceA"}, HTTP),
    (Reason.NO_IDENTITY, {"metrics": {"a": 1}}, altered(TOPIC, retained=True)),
    (Reason.NO_IDENTITY, {"metrics": {"a": 1}, "age_ms": 5}, altered(TOPIC, retained=True)),
]


def shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, dict | list) or value is None else str(value)


@pytest.mark.parametrize(("reason", "item", "origin"), FAULTS, ids=shown)
def test_a_fault_of_an_event_refuses_only_that_event(
    reason: Reason, item: Any, origin: Origin
) -> None:
    neighbour = GOOD | {"device_id": "deviceA"}
    assert refused(item, origin).reason is reason
    first, between, last = decoded(json.dumps([neighbour, item, neighbour]), origin)
    assert isinstance(first, Event)
    assert isinstance(between, Rejection)
    assert isinstance(last, Event)
    assert (between.reason, between.item) == (reason, 1)
    assert json.loads(between.payload) == item


def test_every_reason_that_decoding_may_give_has_its_case() -> None:
    of_the_text = {
        Reason.MALFORMED_JSON,
        Reason.NO_ITEMS,
        Reason.TOO_MANY_ITEMS,
        Reason.TOO_LARGE,
    }
    assert {reason for reason, _, _ in FAULTS} == set(
        Reason
    ) - of_the_text - SAID_AFTER_DECODING - UNDER_OTHER_LIMITS


@pytest.mark.parametrize("value", ["1e400", "-1e400", "1e999999", "9" * 400])
def test_a_number_beyond_a_double_is_no_finite_number(value: str) -> None:
    payload = f'[{json.dumps(GOOD)},{{"metrics":{{"a":{value}}}}},{json.dumps(GOOD)}]'
    first, between, last = decoded(payload)
    assert isinstance(first, Event)
    assert isinstance(between, Rejection)
    assert isinstance(last, Event)
    assert between.reason is Reason.BAD_METRIC_VALUE


BARE = ["NaN", "nan", "NAN", "-nan", "Infinity", "-Infinity", "INFINITY", "inf", "-inf", "+Inf"]


@pytest.mark.parametrize("bare", BARE)
def test_a_bare_nan_or_infinity_costs_its_event_and_no_other(bare: str) -> None:
    items = [json.dumps(GOOD | {"event_id": f"e{n}", "tags": ["nan, NaN"]}) for n in range(99)]
    items.insert(50, f'{{"event_id":"bad","metrics":{{"a":1,"b":{bare}}}}}')
    found = decoded(f"[{','.join(items)}]")
    rejections = [item for item in found if isinstance(item, Rejection)]
    assert [(each.reason, each.item) for each in rejections] == [(Reason.BAD_METRIC_VALUE, 50)]
    assert all(each.tags == ["nan, NaN"] for each in found if isinstance(each, Event))
    again = decode_item(rejections[0].payload, TOPIC, LIMITS)
    assert isinstance(again, Rejection)
    assert again.reason is Reason.BAD_METRIC_VALUE


@pytest.mark.parametrize("bare", BARE)
@pytest.mark.parametrize(
    ("field", "reason"),
    [("ts", Reason.BAD_TIME), ("seq", Reason.BAD_SEQ), ("event_id", Reason.BAD_EVENT_ID)],
)
def test_a_bare_nan_is_no_value_of_any_field(bare: str, field: str, reason: Reason) -> None:
    first, last = decoded(f'[{{"metrics":{{"a":1}},"{field}":{bare}}},{json.dumps(GOOD)}]')
    assert isinstance(first, Rejection)
    assert first.reason is reason
    assert isinstance(last, Event)


def test_a_bare_nan_in_an_unknown_field_is_not_looked_into() -> None:
    (found,) = decoded('{"event_id":"e","metrics":{"a":1},"x":NaN}')
    assert isinstance(found, Event)
    (alone,) = decoded("NaN")
    assert isinstance(alone, Rejection)
    assert alone.reason is Reason.NOT_AN_OBJECT


def test_trailing_nuls_are_cut() -> None:
    for end in ("\0", "\0\0\0", " \0"):
        assert [verdict(each) for each in decoded(json.dumps([GOOD] * 100) + end)] == [
            verdict(each) for each in decoded(json.dumps([GOOD] * 100))
        ]


HOSTILE = [
    b'"\\"' * 60_000,
    b'"' + b'\\"' * 100_000,
    b'"a\\' * 60_000,
    b"[" + b"9" * 4000 + (b"," + b"9" * 4000) * 60,
    b"nan" * 80_000,
    b"-" * 250_000,
]


@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:12]))
def test_a_search_for_bare_words_takes_linear_time(payload: bytes) -> None:
    began = time.process_time()
    assert text_refused(payload).reason is Reason.MALFORMED_JSON
    assert time.process_time() - began < 1


def test_a_number_of_any_length_is_a_fault_of_its_event_not_of_the_text() -> None:
    payload = f'[{{"metrics":{{"a":{"9" * 5000}}}}},{json.dumps(GOOD)}]'
    first, last = decoded(payload)
    assert isinstance(first, Rejection)
    assert first.reason is Reason.BAD_METRIC_VALUE
    assert isinstance(last, Event)


LONG_NUMBERS = ["9" * 5000, f"-{'9' * 5000}", "9" * 100_000]
NESTS = [("[", "", "]"), ('{"a":', "1", "}")]


def nested(depth: int, nest: tuple[str, str, str]) -> str:
    opening, middle, closing = nest
    return opening * depth + middle + closing * depth


@pytest.mark.parametrize("depth", [150, 190, 230, 260, 300, 500, 800, 960, 990, 2000])
@pytest.mark.parametrize("nest", NESTS, ids=["arrays", "objects"])
def test_a_long_number_changes_nothing_of_how_deep_a_payload_may_nest(
    depth: int, nest: tuple[str, str, str]
) -> None:
    """Else one deep item stops the writer: it could be parsed, but not written as a dead letter."""
    bad, good = f'{{"n":%s,"x":{nested(depth, nest)}}}', json.dumps(GOOD)
    short, *long = (decoded(f"[{bad % number},{good}]") for number in ["1", *LONG_NUMBERS])
    for results in long:
        assert [(r.item, getattr(r, "reason", None)) for r in results] == [
            (r.item, getattr(r, "reason", None)) for r in short
        ]


@pytest.mark.parametrize("nest", NESTS, ids=["arrays", "objects"])
@pytest.mark.parametrize("number", ["1", LONG_NUMBERS[0]], ids=["short", "long"])
def test_whatever_nests_as_deep_as_the_parser_allows_fits_into_a_dead_letter(
    number: str, nest: tuple[str, str, str]
) -> None:
    for depth in range(180, 215):
        extra = f'"n":{number},"x":{nested(depth, nest)}'
        payload = f"[{json.dumps(GOOD)[:-1]},{extra}}},{{{extra}}}]".encode()
        first, *rest = decoded(payload)
        if isinstance(first, Event):
            dead_letter = reject(first, Items(payload), Reason.OUT_OF_RANGE, "too full")
            for rejection in (dead_letter, *rest):
                assert isinstance(rejection, Rejection)
                assert json.loads(rejection.payload)["x"] == json.loads(nested(depth, nest))
        else:
            assert first.reason is Reason.MALFORMED_JSON


@pytest.mark.parametrize(
    "rest",
    [
        '"x":"\\ud800"',
        '"\\ud800":1',
        '"x":"\x01"',
        '"x":01',
        '"x":1,',
        '"x":[1,]',
        '"x":1} {',
        '"x":1}\x0b{"y":1',
    ],
    ids=ascii,
)
@pytest.mark.parametrize("number", ["1", LONG_NUMBERS[0]], ids=["short", "long"])
def test_a_long_number_hides_no_fault_of_the_text(number: str, rest: str) -> None:
    payload = f'{{"metrics":{{"a":1}},"n":{number},{rest}}}'
    assert text_refused(payload).reason is Reason.MALFORMED_JSON
    assert text_refused(f"\ufeff{payload}").reason is Reason.MALFORMED_JSON
    assert text_refused(payload.encode() + b"\xff").reason is Reason.MALFORMED_JSON


def test_a_long_number_in_an_unknown_field_is_not_looked_into() -> None:
    for number in LONG_NUMBERS:
        (result,) = decoded(f'[{{"event_id":"e","metrics":{{"a":1}},"n":{number}}}]')
        assert isinstance(result, Event)
        assert result.metrics == {"a": 1}


@pytest.mark.parametrize(
    ("field", "reason"),
    [("seq", Reason.BAD_SEQ), ("ts", Reason.BAD_TIME), ("age_ms", Reason.BAD_TIME)],
)
def test_a_long_number_is_no_integer_that_a_field_takes(field: str, reason: Reason) -> None:
    for number in LONG_NUMBERS:
        first, last = decoded(f'[{{"metrics":{{"a":1}},"{field}":{number}}},{json.dumps(GOOD)}]')
        assert isinstance(first, Rejection)
        assert first.reason is reason
        assert isinstance(last, Event)


def test_a_dead_letter_is_json_again_so_that_a_replay_finds_the_same_fault() -> None:
    (rejection,) = decoded('[{"metrics":{"a":1e400}}]')
    assert isinstance(rejection, Rejection)
    (again,) = decoded(rejection.payload)
    assert isinstance(again, Rejection)
    assert again.reason is rejection.reason is Reason.BAD_METRIC_VALUE


def test_of_equal_names_in_an_object_the_last_one_counts() -> None:
    payload = '{"event_id":"a","event_id":"b","metrics":{"a":1},"metrics":{"m":1,"m":2}}'
    for (result,) in (decoded(payload), decoded(f"[{payload}]")):
        assert isinstance(result, Event)
        assert (result.event_id, result.metrics) == ("b", {"m": 2})


def test_unknown_fields_are_not_looked_into() -> None:
    item = GOOD | {"Metrics": None, "id": "\0", "value": 10**400, "deep": [[{"": [None, True]}]]}
    assert verdict(event(item)) == verdict(event(GOOD))


@pytest.mark.parametrize(
    ("item", "right"),
    [
        (GOOD | {"eventId": "other"}, None),
        (GOOD | {"Timestamp": "x", "timeStamp": "2026-02-01T14:23:45Z"}, None),
        (GOOD | {"time": "x", "ts": 1_769_955_825_000}, None),
        (GOOD | {"date": "x", "age_ms": 5}, None),
        (GOOD | {"updated": "x", "timezone": "x", "times": 3, "device": "x"}, None),
        ({"metrics": {"a": 1}, "EventID": "e"}, "event_id"),
        (GOOD | {"TIMESTAMP": "2026-02-01T14:23:45Z"}, "timestamp"),
        (GOOD | {"Datetime": "2026-02-01T14:23:45Z"}, "timestamp"),
        (GOOD | {"TS": 1, "Tags": []}, "ts"),
    ],
    ids=shown,
)
def test_a_name_that_is_nearly_ours_is_refused_with_the_right_one(
    item: dict[str, Any], right: str | None
) -> None:
    found = decoded_item(item)
    if right is None:
        assert isinstance(found, Event)
    else:
        assert isinstance(found, Rejection)
        assert found.reason is Reason.UNKNOWN_FIELD
        assert found.detail.endswith(f"write {right}") or found.detail.endswith("write tags")


@pytest.mark.parametrize(
    ("item", "form"),
    [
        ({"temperature": 21.5, "rssi": -60}, '{"metrics":{"temperature":21.5}}'),
        ({"event_id": "e", "ts": 5, "name": "x", "on": True, "v": 3}, '{"metrics":{"v":3}}'),
        ({"event_id": "e"}, '{"metrics":{"temp":21.5}}'),
        ({"event_id": "e", "metrics": 5}, '{"metrics":{"temp":21.5}}'),
        ({"a\nb\0": 1}, r'{"metrics":{"a\\nb\\u0000":1}}'),
    ],
    ids=shown,
)
def test_a_body_without_metrics_is_told_the_right_form(item: dict[str, Any], form: str) -> None:
    rejection = refused(item)
    assert rejection.reason is Reason.BAD_METRICS
    assert rejection.detail.endswith(f"as in {form}")


FOREIGN = re.compile(
    r"(?i)python|pydantic|msgspec|timedelta|datetime\b|valueerror|overflow|float|\bint\b|\bdict|\bstr\b"
    r"|tuple|valid (integer|string|number|dictionary)|ident\b|EOF"
)


def test_no_reason_speaks_of_what_voltwire_is_made_of() -> None:
    for _, item, origin in FAULTS:
        detail = refused(item, origin).detail
        if not {"datetime", "date_time"} & set(item if isinstance(item, dict) else ()):
            assert FOREIGN.search(detail) is None, detail


def test_a_dead_letter_of_a_single_event_is_its_payload_byte_for_byte() -> None:
    payload = b' {"metrics" : {"a":  true} }\n'
    (rejection,) = decoded(payload)
    assert isinstance(rejection, Rejection)
    assert rejection.payload == payload
    assert rejection.item is None


def test_a_dead_letter_names_device_and_event_where_they_are_known() -> None:
    named = refused(GOOD | {"device_id": "deviceB", "seq": -1}, HTTP)
    assert (named.device_id, named.event_id) == ("deviceB", "e001")
    on_topic = refused(GOOD | {"device_id": "deviceB"})
    assert (on_topic.device_id, on_topic.event_id) == ("deviceA", "e001")
    unknown = refused({"device_id": 5, "event_id": ["e"], "metrics": {}}, HTTP)
    assert (unknown.device_id, unknown.event_id) == (None, None)
    unfit_for_a_text_column = refused({"device_id": "a\0", "event_id": "e\0", "metrics": {}}, HTTP)
    assert (unfit_for_a_text_column.device_id, unfit_for_a_text_column.event_id) == (None, None)


@properties
@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_the_detail_of_a_rejection_is_printable_and_short(name: str) -> None:
    for item in (GOOD | {"metrics": {name: None}}, GOOD | {"metrics": {"a": 1, f"{name} ": 1}}):
        detail = refused(item).detail
        assert detail.isprintable()
        assert len(detail) < 3000


def test_an_event_refused_after_decoding_leaves_the_same_dead_letter() -> None:
    second = GOOD | {"event_id": "e002", "metrics": {"soc_percent": 101}}
    payload = json.dumps([GOOD, second]).encode()
    found = decoded(payload)[1]
    assert isinstance(found, Event)
    dead_letter = reject(found, Items(payload), Reason.OUT_OF_RANGE, "too full")
    assert json.loads(dead_letter.payload) == second
    assert (dead_letter.item, dead_letter.device_id, dead_letter.event_id) == (1, "deviceA", "e002")
    assert (dead_letter.reason, dead_letter.detail) == (Reason.OUT_OF_RANGE, "too full")
    assert dead_letter.received_at == ARRIVAL
    alone = b" " + json.dumps(second).encode()
    (found,) = decoded(alone)
    assert isinstance(found, Event)
    assert reject(found, Items(alone), Reason.OUT_OF_RANGE, "too full").payload == alone


# -- Fields of an event. --


def test_the_example_of_the_documents_is_accepted() -> None:
    item = {
        "event_id": "e001",
        "device_id": "deviceA",
        "timestamp": "2026-02-01T14:23:45Z",
        "metrics": {"soc_percent": 67.5, "voltage_v": 385.2},
        "tags": ["room:101"],
        "seq": 17,
    }
    for origin in (TOPIC, HTTP):
        assert event(item, origin) == Event(
            "deviceA",
            "e001",
            epoch_us(datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
            {"soc_percent": 67.5, "voltage_v": 385.2},
            ["room:101"],
            17,
            epoch_us(ARRIVAL),
        )


@pytest.mark.parametrize(
    "item",
    [
        GOOD | {"event_id": "x" * 128},
        GOOD | {"event_id": "😀" * 128},
        GOOD | {"event_id": "e 1/é\u2028\u00a0\ufeff\uffff"},
        GOOD | {"event_id": " "},
        GOOD | {"metrics": {f"m{n}": n for n in range(256)}},
        GOOD | {"metrics": {"m" * 128: 1}},
        GOOD | {"metrics": {"aZ09_.:/%-": 1}},
        GOOD | {"metrics": {"a": 1.7976931348623157e308}},
        GOOD | {"metrics": {"a": 5e-324}},
        GOOD | {"tags": []},
        GOOD | {"tags": ["t" * 128] * 32},
        GOOD | {"tags": ["\n\x01\x7f\x85 😀"]},
        GOOD | {"seq": 0},
        GOOD | {"seq": 2**53 - 1},
        GOOD | {"age_ms": 0},
    ],
    ids=shown,
)
def test_fields_reach_to_their_limits(item: dict[str, Any]) -> None:
    found = event(item)
    assert found.event_id == item["event_id"]
    assert found.metrics == item["metrics"]
    assert found.tags == item.get("tags", [])
    assert found.seq == item.get("seq")


@pytest.mark.parametrize("device_id", ["a", "9", "deviceA", "a._:-Z9", "a" * 128])
def test_over_http_the_body_names_the_device(device_id: str) -> None:
    assert event(GOOD | {"device_id": device_id}, HTTP).device_id == device_id


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("30", 30),
        ("30.0", 30),
        ("3e1", 30),
        ("-30.0", -30),
        ("0.0", 0),
        ("-0.0", 0),
        ("1e-400", 0),
        ("9007199254740991.0", 2**53 - 1),
        ("-9007199254740991", -(2**53) + 1),
    ],
)
def test_an_integral_value_below_2_to_the_53_is_an_integer(written: str, kept: int) -> None:
    (result,) = decoded(f'{{"event_id":"e","metrics":{{"a":{written}}}}}')
    assert isinstance(result, Event)
    assert result.metrics == {"a": kept}
    assert type(result.metrics["a"]) is int
    assert math.copysign(1, result.metrics["a"]) == math.copysign(1, kept)


@pytest.mark.parametrize("written", ["9007199254740992", "9007199254740993", "1e22", "0.5", "-2.5"])
def test_any_other_value_is_a_double(written: str) -> None:
    (result,) = decoded(f'{{"event_id":"e","metrics":{{"a":{written}}}}}')
    assert isinstance(result, Event)
    assert result.metrics == {"a": float(written)}
    assert type(result.metrics["a"]) is float


# -- Time. --


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        ({"timestamp": "2026-02-01T14:23:45Z"}, datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        ({"timeStamp": "2026-02-01T14:23:45"}, datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        ({"timestamp": "2026-02-01 15:23:45+01:00"}, datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        (
            {"timestamp": "2026-02-01T14:23:45.123456789Z"},
            datetime(2026, 2, 1, 14, 23, 45, 123_456, tzinfo=UTC),
        ),
        ({"ts": 1_769_955_825_001}, datetime(2026, 2, 1, 14, 23, 45, 1000, tzinfo=UTC)),
        ({"age_ms": 1500}, ARRIVAL - timedelta(seconds=1.5)),
        ({"age_ms": 1500.0}, ARRIVAL - timedelta(seconds=1.5)),
        ({"ts": 1_769_955_825_001.0}, datetime(2026, 2, 1, 14, 23, 45, 1000, tzinfo=UTC)),
        ({"timestamp": "2026-02-01T14:22:60Z"}, datetime(2026, 2, 1, 14, 23, tzinfo=UTC)),
        ({"timestamp": "2026-02-01T15:23:45+0100"}, datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        ({"timestamp": "2026-02-01T15:23:45+01"}, datetime(2026, 2, 1, 14, 23, 45, tzinfo=UTC)),
        ({}, ARRIVAL),
    ],
    ids=shown,
)
def test_an_event_has_one_of_four_times_or_that_of_its_arrival(
    given_time: dict[str, Any], expected: datetime
) -> None:
    assert event(GOOD | given_time).ts == expected


@pytest.mark.parametrize(
    ("given_time", "reason", "hint"),
    [
        ({"ts": 1_769_955_825}, Reason.TOO_OLD, "looks like seconds: send ts with 1769955825000"),
        (
            {"ts": 1_769_955_825.5},
            Reason.BAD_TIME,
            "looks like seconds: send ts with 1769955825500",
        ),
        ({"ts": 1_769_955_825_000_000}, Reason.BAD_TIME, "looks like microseconds"),
        ({"ts": 1_769_955_825_000_000_000}, Reason.BAD_TIME, "looks like nanoseconds"),
        ({"ts": 1_769_955_825_000.5}, Reason.BAD_TIME, "looks like milliseconds"),
        ({"ts": "1769955825000"}, Reason.BAD_TIME, "send ts with 1769955825000, without quotes"),
        ({"ts": 123_456}, Reason.TOO_OLD, "looks like the time since a start"),
        ({"timestamp": 1_769_955_825}, Reason.BAD_TIME, "looks like seconds"),
        ({"timestamp": 1_769_955_825_000}, Reason.BAD_TIME, "looks like milliseconds"),
        ({"timestamp": "1769955825"}, Reason.BAD_TIME, "looks like seconds"),
        ({"timestamp": "yesterday"}, Reason.BAD_TIME, "a text such as 2026-02-01T14:23:45Z"),
        ({"ts": -5}, Reason.TOO_OLD, "more than 3650 days before arrival"),
        ({"age_ms": 0.5}, Reason.BAD_TIME, "the milliseconds before arrival"),
    ],
    ids=shown,
)
def test_the_reason_for_a_time_says_what_its_number_looks_like(
    given_time: dict[str, Any], reason: Reason, hint: str
) -> None:
    rejection = refused(GOOD | given_time)
    assert rejection.reason is reason
    assert hint in rejection.detail


def test_an_integer_may_be_written_with_a_point() -> None:
    assert event(GOOD | {"seq": 17.0}).seq == 17
    assert type(event(GOOD | {"seq": 17.0}).seq) is int


@properties
@given(st.sets(st.sampled_from(["timestamp", "timeStamp", "ts", "age_ms"]), min_size=2))
def test_more_than_one_time_is_refused_even_if_they_agree(names: set[str]) -> None:
    agreeing = {
        "timestamp": at(ARRIVAL),
        "timeStamp": at(ARRIVAL),
        "ts": (ARRIVAL - EPOCH) // timedelta(milliseconds=1),
        "age_ms": 0,
    }
    rejection = refused(GOOD | {name: agreeing[name] for name in names})
    assert rejection.reason is Reason.SEVERAL_TIMES
    assert all(name in rejection.detail for name in names)


@pytest.mark.parametrize(
    ("offset", "verdict_on_it"),
    [
        (-LIMITS.max_age - timedelta(microseconds=1), Reason.TOO_OLD),
        (-LIMITS.max_age, None),
        (timedelta(), None),
        (LIMITS.max_future, None),
        (LIMITS.max_future + timedelta(microseconds=1), Reason.IN_THE_FUTURE),
    ],
)
def test_the_edges_of_the_accepted_window_belong_to_it(
    offset: timedelta, verdict_on_it: Reason | None
) -> None:
    result = decoded_item(GOOD | {"timestamp": at(ARRIVAL + offset)})
    if verdict_on_it is None:
        assert isinstance(result, Event)
        assert result.ts == ARRIVAL + offset
    else:
        assert isinstance(result, Rejection)
        assert result.reason is verdict_on_it


@pytest.mark.parametrize(
    ("age_days", "retention_days", "verdict_on_it"),
    [
        (100, 100, None),
        (101, 100, Reason.OLDER_THAN_RETENTION),
        (3651, 100, Reason.OLDER_THAN_RETENTION),
        (3651, 4000, Reason.TOO_OLD),
        (4001, 4000, Reason.OLDER_THAN_RETENTION),
        (3650, None, None),
    ],
)
def test_what_is_older_than_retention_is_refused_as_that_also_where_it_is_too_old(
    age_days: int, retention_days: int | None, verdict_on_it: Reason | None
) -> None:
    retention = None if retention_days is None else timedelta(days=retention_days)
    limits = replace(LIMITS, retention=retention)
    ts = ARRIVAL - timedelta(days=age_days)
    (result,) = decoded(json.dumps(GOOD | {"timestamp": at(ts)}), limits=limits)
    assert (result.reason if isinstance(result, Rejection) else None) is verdict_on_it
    later = outside_window(ts, ARRIVAL, limits)
    assert (None if later is None else later[0]) is verdict_on_it


def test_the_limits_take_retention_from_the_settings() -> None:
    assert AcceptLimits.of(Settings(retention_days=0)).retention is None
    assert AcceptLimits.of(Settings(retention_days=30)).retention == timedelta(days=30)


# -- Identity. --

TIMED: dict[str, Any] = {
    "timestamp": "2026-02-01T14:23:45.000001Z",
    "metrics": {"a": 30, "b": 1.5},
    "tags": ["x", "y"],
    "seq": 4,
}


def test_an_absent_id_is_derived_from_the_own_time_and_the_content() -> None:
    micros = (datetime(2026, 2, 1, 14, 23, 45, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    event_id = event(TIMED).event_id
    assert re.fullmatch(rf"auto-{micros:x}-[0-9a-f]{{16,}}", event_id)
    assert len(event_id) <= 128


@pytest.mark.parametrize(
    "same",
    [
        TIMED,
        TIMED | {"metrics": {"a": 30.0, "b": 1.5}},
        TIMED | {"metrics": {"b": 1.5, "a": 30}},
        TIMED | {"timestamp": "2026-02-01 15:23:45.0000019+01:00"},
        TIMED | {"device_id": "deviceA"},
        TIMED | {"unknown": "field"},
    ],
    ids=shown,
)
def test_the_same_event_sent_again_has_the_same_id(same: dict[str, Any]) -> None:
    later = ARRIVAL + timedelta(seconds=77)
    assert event(same).event_id == event(TIMED).event_id
    assert event(same, Origin(epoch_us(later), "deviceA")).event_id == event(TIMED).event_id
    assert (
        event(same, Origin(epoch_us(later), "deviceA", retained=True)).event_id
        == event(TIMED).event_id
    )
    assert (
        event(same | {"device_id": "deviceA"}, Origin(epoch_us(later))).event_id
        == event(TIMED).event_id
    )


def test_the_id_is_the_same_for_every_spelling_of_the_own_time() -> None:
    plain = {"metrics": {"a": 1}}
    ids = {
        event(plain | {"ts": 1_769_955_825_000}).event_id,
        event(plain | {"timestamp": "2026-02-01T14:23:45Z"}).event_id,
        event(plain | {"timeStamp": "2026-02-01T15:23:45+01:00"}).event_id,
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    "other",
    [
        TIMED | {"timestamp": "2026-02-01T14:23:45.000002Z"},
        TIMED | {"metrics": {"a": 30, "b": 1.25}},
        TIMED | {"metrics": {"a": 30, "c": 1.5}},
        TIMED | {"metrics": {"a": 30}},
        TIMED | {"tags": ["x"]},
        TIMED | {"tags": ["x,y"]},
        TIMED | {"seq": 5},
        {name: TIMED[name] for name in ("timestamp", "metrics", "tags")},
        {name: TIMED[name] for name in ("timestamp", "metrics", "seq")},
    ],
    ids=shown,
)
def test_another_content_has_another_id(other: dict[str, Any]) -> None:
    assert event(other).event_id != event(TIMED).event_id


def test_another_device_has_another_id() -> None:
    assert event(TIMED, Origin(epoch_us(ARRIVAL), "deviceB")).event_id != event(TIMED).event_id


@properties
@given(EVENTS, st.timedeltas(timedelta(), timedelta(days=1)))
def test_the_same_payload_gets_the_same_id_whenever_it_arrives(
    item: dict[str, Any], later: timedelta
) -> None:
    first, again = (
        decoded_item(item),
        decoded_item(item, Origin(epoch_us(ARRIVAL + later), "deviceA")),
    )
    if isinstance(first, Event) and isinstance(again, Event):
        has_identity = "event_id" in item or "ts" in item
        assert (first.event_id == again.event_id) is has_identity


@pytest.mark.parametrize("clockless", [{}, {"age_ms": 250}], ids=shown)
def test_an_event_without_identity_gets_a_random_id(clockless: dict[str, Any]) -> None:
    item = {"metrics": {"a": 1}} | clockless
    ids = {event(item).event_id for _ in range(10)}
    assert len(ids) == 10
    assert all(re.fullmatch(r"random-[0-9a-f]{32}", event_id) for event_id in ids)


@pytest.mark.parametrize(
    "identity", [{"event_id": "e"}, {"event_id": "e", "age_ms": 5}, {"ts": 1_769_955_825_000}]
)
def test_a_retained_message_needs_an_identity_and_nothing_more(identity: dict[str, Any]) -> None:
    item = {"metrics": {"a": 1}} | identity
    retained = event(item, altered(TOPIC, retained=True))
    assert verdict(retained) == verdict(event(item))


def test_a_replayed_event_without_identity_is_named_after_its_dead_letter() -> None:
    replayed = altered(TOPIC, replay_of=300)
    items = decoded(
        json.dumps([{"metrics": {"a": 1}}, {"metrics": {"a": 1}, "age_ms": 5}]), replayed
    )
    ids = [item.event_id for item in items]
    assert ids == ["random-12c-0", "random-12c-1"]
    assert event({"metrics": {"a": 1}}, replayed).event_id == "random-12c-0"
    assert event(TIMED, replayed).event_id == event(TIMED).event_id
    assert event({"metrics": {"a": 1}, "event_id": "e"}, replayed).event_id == "e"


@pytest.mark.parametrize("item", [[], [{"metrics": {"a": 1}}], 7, None, "text"], ids=shown)
def test_an_item_that_was_no_object_is_none_when_it_comes_alone(item: Any) -> None:
    (in_an_array,) = decoded(json.dumps([item]))
    assert isinstance(in_an_array, Rejection)
    alone = decode_item(in_an_array.payload, TOPIC, LIMITS)
    assert isinstance(alone, Rejection)
    assert alone.reason is in_an_array.reason is Reason.NOT_AN_OBJECT


@properties
@given(st.binary(max_size=200))
def test_arbitrary_bytes_as_an_item_get_one_answer(payload: bytes) -> None:
    assert isinstance(decode_item(payload, TOPIC, LIMITS), Event | Rejection)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1" + "0" * 5000 + "e-5000", 1),
        ("1" + "0" * 5000 + ".5e-4999", 10),
        ("-1" + "0" * 5000 + "E-5001", -0.1),
        ("1" + "0" * 5000 + "e-4999.", None),
        ("1" + "0" * 5000, None),
        ("1" + "0" * 5000 + ".0", None),
        ("1" + "0" * 5000 + "e2", None),
    ],
)
def test_a_number_of_thousands_of_digits_is_what_it_says_or_refused(
    number: str, value: float | None
) -> None:
    text = f'{{"event_id":"e","metrics":{{"a":{number}}},"unknown":1}}'
    for payload in (text, text.replace(',"unknown":1', "")):
        (item,) = decoded(payload, TOPIC)
        assert (item.metrics["a"] if isinstance(item, Event) else None) == value
