"""Signals by docs/mqtt.md#status: what a status message says, and how the signals of a batch merge."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestor.decode.presence import (
    ALIVE,
    BIRTH,
    HEARTBEAT,
    TELEMETRY,
    WILL,
    PresenceSignal,
    PresenceUpdate,
    SignalKind,
    merge,
    read_status,
)

properties = settings(max_examples=30, deadline=None, database=None)

MAX_SLEEP_S = 366 * 24 * 3600
ASLEEP = PresenceSignal(SignalKind.SLEEP, "asleep")
NAPPING = PresenceSignal(SignalKind.SLEEP, "asleep", 3600.0)
SIGNALS = [TELEMETRY, HEARTBEAT, BIRTH, WILL, ASLEEP, NAPPING]


def merged(*signals: PresenceSignal) -> PresenceUpdate | None:
    result = None
    for signal in signals:
        result = merge(result, signal)
    return result


def with_session(signal: PresenceSignal, session: str | None) -> PresenceSignal:
    return replace(signal, session=session)


@pytest.mark.parametrize(
    ("born", "died", "counts"),
    [
        ("s2", "s1", False),
        ("s2", "s2", True),
        ("s2", None, True),
        (None, "s1", True),
        (None, None, True),
    ],
)
@pytest.mark.parametrize("between", [[], [TELEMETRY], [HEARTBEAT], [TELEMETRY, HEARTBEAT]])
def test_a_will_of_another_session_than_that_of_the_last_birth_is_ignored(
    born: str | None, died: str | None, *, counts: bool, between: list[PresenceSignal]
) -> None:
    update = merged(with_session(BIRTH, born), *between, with_session(WILL, died))
    assert update is not None
    assert (update.will, update.birth, update.session) == (counts, True, born)


def test_a_will_without_a_birth_in_its_batch_carries_its_session_to_the_table() -> None:
    update = merged(TELEMETRY, with_session(WILL, "s1"))
    assert update == PresenceUpdate(life="telemetry", will=True, will_session="s1")


# -- Status messages. --


@pytest.mark.parametrize(
    ("payload", "signal"),
    [
        (b"online", BIRTH),
        (b"offline", WILL),
        (b"asleep", ASLEEP),
        (b"  online\r\n", BIRTH),
        (b'"online"', BIRTH),
        (b'"offline"', WILL),
        (b'"asleep"', ASLEEP),
        (b'{"state":"online"}', BIRTH),
        (b'{"state":"offline"}', WILL),
        (b'{"state":"asleep"}', ASLEEP),
        (b' {"state" : "online"} \n', BIRTH),
        (b'{"state":"online","receipts":true}', replace(BIRTH, receipts=True)),
        (b'{"state":"online","receipts":false}', replace(BIRTH, receipts=False)),
        (b'{"state":"online","receipts":1}', BIRTH),
        (b'{"state":"online","receipts":"true"}', BIRTH),
        (b'{"state":"offline","reason":"battery"}', WILL),
        (b'{"state":"asleep","wake_in_s":3600}', NAPPING),
        (b'{"wake_in_s":3600.0,"state":"asleep","x":null}', NAPPING),
        (b'{"state":"online","session":"b41"}', replace(BIRTH, session="b41")),
        (b'{"state":"offline","session":"b41"}', replace(WILL, session="b41")),
        (b'{"state":"offline","session":41}', WILL),
        (b'{"state":"offline","session":""}', WILL),
        (b'{"state":"offline","session":"\\u0000"}', WILL),
        (b"Online", BIRTH),
        (b"OFFLINE", WILL),
        (b"Offline\n", WILL),
        (b"online\0", BIRTH),
        (b"Asleep\0\0\r\n", ASLEEP),
        (b'"ONLINE"\0', BIRTH),
        (b'{"state":"Online","receipts":true}\0', replace(BIRTH, receipts=True)),
        (b'{"state":" offline "}', WILL),
        (b'{"state":"asleep","wake_in_s":"3600"}', NAPPING),
        (b'{"state":"ASLEEP","wake_in_s":" 3600.0 "}', NAPPING),
        (b'{"state":"asleep","wake_in_s":"soon"}', ASLEEP),
        (b'{"state":"asleep","wake_in_s":NaN}', ASLEEP),
        (b'{"state":"asleep","wake_in_s":"inf"}', ASLEEP),
        (b'{"state":"asleep","wake_in_s":0.5}', PresenceSignal(SignalKind.SLEEP, "asleep", 0.5)),
    ],
    ids=repr,
)
def test_a_status_is_a_plain_word_or_json(payload: bytes, signal: PresenceSignal) -> None:
    assert read_status(payload) == signal


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"on",
        b"onlineoffline",
        b"online offline",
        b"never_seen",
        b"late",
        b"\xff\xfe",
        b"\xef\xbb\xbfonline",
        b"online\x00offline",
        b"\x00",
        b"1",
        b"null",
        b"true",
        b'["online"]',
        b'{"state":"online"',
        b'{"state":"online"} online',
        b"{'state':'online'}",
        b'{"State":"online"}',
        b"{}",
        b'{"state":null}',
        b'{"state":5}',
        b'{"state":["online"]}',
        b'{"state":{"state":"online"}}',
        b'{"state":"late"}',
        b'{"state":"on\\u006cine\\ud800"}',
        b'"online',
        b"{" * 10_000,
        b'{"state":' * 10_000,
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_any_other_status_means_nothing(payload: bytes) -> None:
    assert read_status(payload) is None


@pytest.mark.parametrize("wake_in_s", [1e-3, 1, 3600, 86_400.5, MAX_SLEEP_S])
def test_an_announced_sleep_lasts_up_to_a_year(wake_in_s: float) -> None:
    payload = json.dumps({"state": "asleep", "wake_in_s": wake_in_s}).encode()
    assert read_status(payload) == PresenceSignal(SignalKind.SLEEP, "asleep", wake_in_s)


@pytest.mark.parametrize(
    "written",
    [
        *("0", "-1", "-0.0", str(MAX_SLEEP_S + 1), "1e400", "-1e400", "9" * 400, "9" * 5000),
        *("NaN", "Infinity", '"3600 s"', '""', "null", "true", "[3600]", "{}"),
    ],
    ids=lambda written: written[:12],
)
def test_a_sleep_of_impossible_length_is_a_sleep_all_the_same(written: str) -> None:
    assert read_status(f'{{"state":"asleep","wake_in_s":{written}}}'.encode()) == ASLEEP


@properties
@given(st.binary() | st.binary().map(lambda noise: b'{"state":"asleep","x":"' + noise))
def test_every_status_gets_an_answer(payload: bytes) -> None:
    assert isinstance(read_status(payload), PresenceSignal | None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["online", "asleep"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["state", "wake_in_s"]), inner),
    max_leaves=4,
)


@properties
@given(st.fixed_dictionaries({"state": JSON | st.text()}, optional={"wake_in_s": JSON}))
def test_a_status_in_json_says_only_what_its_state_says(document: dict[str, Any]) -> None:
    signal = read_status(json.dumps(document).encode())
    if signal is not None:
        assert {"online": BIRTH.kind, "asleep": SignalKind.SLEEP}[document["state"]] is signal.kind
        assert signal.sleep_s is None or 0 < signal.sleep_s <= MAX_SLEEP_S


# -- Merging. --


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([TELEMETRY], ALIVE),
        ([HEARTBEAT], PresenceUpdate(life="heartbeat")),
        ([BIRTH], PresenceUpdate(life="birth", birth=True)),
        ([replace(BIRTH, receipts=True)], PresenceUpdate(life="birth", birth=True)),
        ([WILL], PresenceUpdate(will=True)),
        ([NAPPING], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
        ([HEARTBEAT, TELEMETRY], ALIVE),
        ([TELEMETRY, BIRTH], PresenceUpdate(life="birth", birth=True)),
        ([WILL, TELEMETRY], ALIVE),
        ([WILL, BIRTH], PresenceUpdate(life="birth", birth=True)),
        ([WILL, NAPPING], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
        ([TELEMETRY, WILL], PresenceUpdate(life="telemetry", will=True)),
        ([TELEMETRY, WILL, WILL], PresenceUpdate(life="telemetry", will=True)),
        ([TELEMETRY, WILL, HEARTBEAT], PresenceUpdate(life="heartbeat")),
        ([NAPPING, WILL], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
        ([NAPPING, TELEMETRY], ALIVE),
        ([NAPPING, TELEMETRY, WILL], PresenceUpdate(life="telemetry", will=True)),
        ([NAPPING, ASLEEP], PresenceUpdate(life="asleep", asleep=True)),
        ([TELEMETRY, NAPPING], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
    ],
)
def test_signals_are_merged_in_the_order_of_their_arrival(
    signals: list[PresenceSignal], expected: PresenceUpdate
) -> None:
    assert merged(*signals) == expected


@properties
@given(st.lists(st.sampled_from(SIGNALS), min_size=1))
def test_only_the_newest_life_and_the_wills_after_it_count(signals: list[PresenceSignal]) -> None:
    lives = [index for index, signal in enumerate(signals) if signal is not WILL]
    if not lives:
        assert merged(*signals) == PresenceUpdate(will=True)
        return
    newest = signals[lives[-1]]
    asleep = newest.kind is SignalKind.SLEEP
    assert merged(*signals) == PresenceUpdate(
        life=newest.reason,
        asleep=asleep,
        sleep_s=newest.sleep_s,
        will=WILL in signals[lives[-1] :] and not asleep,
        birth=BIRTH in signals,
    )


@properties
@given(st.lists(st.sampled_from(SIGNALS)), st.sampled_from([TELEMETRY, HEARTBEAT, BIRTH, NAPPING]))
def test_life_takes_back_every_will_before_it(
    signals: list[PresenceSignal], life: PresenceSignal
) -> None:
    alone = merged(life)
    assert alone is not None
    assert merged(*signals, life) == replace(alone, birth=BIRTH in (*signals, life))
