"""Contract sections 3 and 7: what a status message says, and how the signs of a batch fold."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestor.decode.presence import (
    BIRTH,
    HEARTBEAT,
    LIVE,
    TELEMETRY,
    WILL,
    PresenceSignal,
    PresenceUpdate,
    SignalKind,
    fold,
    read_status,
)

properties = settings(max_examples=30, deadline=None, database=None)

MAX_SLEEP_S = 366 * 24 * 3600
ASLEEP = PresenceSignal(SignalKind.SLEEP, "asleep")
NAPPING = PresenceSignal(SignalKind.SLEEP, "asleep", 3600.0)
SIGNS = [TELEMETRY, HEARTBEAT, BIRTH, WILL, ASLEEP, NAPPING]


def folded(*signs: PresenceSignal) -> PresenceUpdate | None:
    result = None
    for sign in signs:
        result = fold(result, sign)
    return result


# -- Status messages. --


@pytest.mark.parametrize(
    ("payload", "sign"),
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
        (b'{"state":"asleep","wake_in_s":0.5}', PresenceSignal(SignalKind.SLEEP, "asleep", 0.5)),
    ],
    ids=repr,
)
def test_a_status_is_a_plain_word_or_json(payload: bytes, sign: PresenceSignal) -> None:
    assert read_status(payload) == sign


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
        b"online\x00",
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
        *("NaN", "Infinity", '"3600"', "true", "[3600]", "{}"),
    ],
    ids=lambda written: written[:12],
)
def test_a_sleep_of_impossible_length_means_nothing(written: str) -> None:
    assert read_status(f'{{"state":"asleep","wake_in_s":{written}}}'.encode()) is None


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
    sign = read_status(json.dumps(document).encode())
    if sign is not None:
        assert {"online": BIRTH.kind, "asleep": SignalKind.SLEEP}[document["state"]] is sign.kind
        assert sign.sleep_s is None or 0 < sign.sleep_s <= MAX_SLEEP_S


# -- Folding. --


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ([TELEMETRY], LIVE),
        ([HEARTBEAT], PresenceUpdate(life="heartbeat")),
        ([BIRTH], PresenceUpdate(life="birth")),
        ([replace(BIRTH, receipts=True)], PresenceUpdate(life="birth")),
        ([WILL], PresenceUpdate(will=True)),
        ([NAPPING], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
        ([HEARTBEAT, TELEMETRY], LIVE),
        ([TELEMETRY, BIRTH], PresenceUpdate(life="birth")),
        ([WILL, TELEMETRY], LIVE),
        ([WILL, BIRTH], PresenceUpdate(life="birth")),
        ([WILL, NAPPING], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
        ([TELEMETRY, WILL], PresenceUpdate(life="telemetry", will=True)),
        ([TELEMETRY, WILL, WILL], PresenceUpdate(life="telemetry", will=True)),
        ([TELEMETRY, WILL, HEARTBEAT], PresenceUpdate(life="heartbeat")),
        ([NAPPING, WILL], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
        ([NAPPING, TELEMETRY], LIVE),
        ([NAPPING, TELEMETRY, WILL], PresenceUpdate(life="telemetry", will=True)),
        ([NAPPING, ASLEEP], PresenceUpdate(life="asleep", asleep=True)),
        ([TELEMETRY, NAPPING], PresenceUpdate(life="asleep", asleep=True, sleep_s=3600)),
    ],
)
def test_signs_fold_in_the_order_of_their_arrival(
    signs: list[PresenceSignal], expected: PresenceUpdate
) -> None:
    assert folded(*signs) == expected


@properties
@given(st.lists(st.sampled_from(SIGNS), min_size=1))
def test_only_the_newest_life_and_the_wills_after_it_count(signs: list[PresenceSignal]) -> None:
    lives = [index for index, sign in enumerate(signs) if sign is not WILL]
    if not lives:
        assert folded(*signs) == PresenceUpdate(will=True)
        return
    newest = signs[lives[-1]]
    asleep = newest.kind is SignalKind.SLEEP
    assert folded(*signs) == PresenceUpdate(
        life=newest.reason,
        asleep=asleep,
        sleep_s=newest.sleep_s,
        will=WILL in signs[lives[-1] :] and not asleep,
    )


@properties
@given(st.lists(st.sampled_from(SIGNS)), st.sampled_from([TELEMETRY, HEARTBEAT, BIRTH, NAPPING]))
def test_life_takes_back_every_will_before_it(
    signs: list[PresenceSignal], life: PresenceSignal
) -> None:
    assert folded(*signs, life) == folded(life)
