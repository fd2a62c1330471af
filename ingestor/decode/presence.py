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
SESSION_CHARS_MAX = 128  # A longer text counts as none.


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
    session: str | None = None  # of the connection that a birth begins and a will ends

    @property
    def is_birth(self) -> bool:
        return self.reason == BIRTH.reason


TELEMETRY = PresenceSignal(SignalKind.LIFE, "telemetry")
HEARTBEAT = PresenceSignal(SignalKind.LIFE, "heartbeat")
BIRTH = PresenceSignal(SignalKind.LIFE, "birth")
WILL = PresenceSignal(SignalKind.WILL, "will")


@dataclass(frozen=True, slots=True)
class PresenceUpdate:
    """All signals of a device in a batch. `life` is the reason of the newest sign of life.

    `session` is that of the last birth, if there is a `birth`; `will_session` that of the will.
    """

    life: str | None = None
    asleep: bool = False
    sleep_s: float | None = None
    will: bool = False
    birth: bool = False
    session: str | None = None
    will_session: str | None = None


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
    if signal is TELEMETRY and (before is None or not before.birth):
        return ALIVE
    if signal.kind is SignalKind.WILL:
        return _with_will(before or PresenceUpdate(), signal.session)
    if signal.is_birth:
        return PresenceUpdate(life=signal.reason, birth=True, session=signal.session)
    born = before if before is not None and before.birth else PresenceUpdate()
    return PresenceUpdate(
        life=signal.reason,
        asleep=signal.kind is SignalKind.SLEEP,
        sleep_s=signal.sleep_s,
        birth=born.birth,
        session=born.session,
    )


def is_of_another(session: str | None, will_session: str | None) -> bool:
    """Whether a will is of another connection than the birth; without a session on either side it counts."""
    return session is not None and will_session is not None and session != will_session


def _with_will(before: PresenceUpdate, session: str | None) -> PresenceUpdate:
    if before.asleep or (before.birth and is_of_another(before.session, session)):
        return before
    return replace(before, will=True, will_session=session)


def _from_document(document: Any) -> PresenceSignal | None:
    if isinstance(document, dict):
        signal = _from_word(document.get("state"), document.get("wake_in_s"))
        if signal is None:
            return None
        receipts, session = document.get("receipts"), document.get("session")
        return replace(
            signal,
            receipts=receipts if isinstance(receipts, bool) else None,
            session=session if _is_session(session) else None,
        )
    return _from_word(document, None)


def _is_session(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= SESSION_CHARS_MAX and "\0" not in value


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
