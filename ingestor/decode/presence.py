"""Presence signals: what status, heartbeat and telemetry say about a device. Pure.

`merge` is responsible for the signals of one batch: it reduces them to one update per device. Life cancels
an earlier will, and a will during an announced sleep is ignored. What an update does to the stored state
is decided in SQL (ingestor/store/queries.sql); schema/presence.py has the times.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ingestor.decode.text import parse

MAX_SLEEP_S = 366 * 86_400


class SignalKind(StrEnum):
    LIFE = "life"
    SLEEP = "sleep"
    WILL = "will"


@dataclass(frozen=True, slots=True)
class PresenceSignal:
    """Subscribers get `reason` with the state it leads to; `sleep_s` is the announced wake_in_s."""

    kind: SignalKind
    reason: str
    sleep_s: float | None = None
    receipts: bool | None = None  # whether the device asks for receipts from now on


TELEMETRY = PresenceSignal(SignalKind.LIFE, "telemetry")
HEARTBEAT = PresenceSignal(SignalKind.LIFE, "heartbeat")
BIRTH = PresenceSignal(SignalKind.LIFE, "birth")
WILL = PresenceSignal(SignalKind.WILL, "will")


@dataclass(frozen=True, slots=True)
class PresenceUpdate:
    """All signals of a device in a batch. `life` is the reason of the newest sign of life."""

    life: str | None = None
    asleep: bool = False
    sleep_s: float | None = None
    will: bool = False


ALIVE = PresenceUpdate(life=TELEMETRY.reason)


def read_status(payload: bytes) -> PresenceSignal | None:
    """The signal in a status message, which is a bare word or JSON; None if it has no meaning."""
    word = payload.strip(b" \t\r\n").rstrip(b"\0 \t\r\n")
    if word[:1] in {b"{", b'"'}:
        try:
            return _from_document(parse(word))
        except ValueError:
            return None
    return _from_word(word.decode("ascii", "replace"), None)


def merge(before: PresenceUpdate | None, signal: PresenceSignal) -> PresenceUpdate:
    """Add the next signal, in order of arrival, to the update so far."""
    if signal is TELEMETRY:
        return ALIVE
    if signal.kind is SignalKind.LIFE:
        return PresenceUpdate(life=signal.reason)
    if signal.kind is SignalKind.SLEEP:
        return PresenceUpdate(life=signal.reason, asleep=True, sleep_s=signal.sleep_s)
    if before is None:
        return PresenceUpdate(will=True)
    return before if before.asleep else replace(before, will=True)


def _from_document(document: Any) -> PresenceSignal | None:
    if isinstance(document, dict):
        signal = _from_word(document.get("state"), document.get("wake_in_s"))
        receipts = document.get("receipts")
        if signal is None or not isinstance(receipts, bool):
            return signal
        return replace(signal, receipts=receipts)
    return _from_word(document, None)


def _from_word(word: Any, wake_in_s: Any) -> PresenceSignal | None:
    match word.strip().lower() if isinstance(word, str) else None:
        case "online":
            return BIRTH
        case "offline":
            return WILL
        case "asleep":
            return PresenceSignal(SignalKind.SLEEP, "asleep", _sleep_s(wake_in_s))
        case _:
            return None


def _sleep_s(wake_in_s: Any) -> float | None:
    """An announced length, also in quotes; None if it cannot be read: the device sleeps all the same."""
    if isinstance(wake_in_s, bool) or not isinstance(wake_in_s, int | float | str):
        return None
    try:
        seconds = float(wake_in_s)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= MAX_SLEEP_S else None
