"""Instants as RFC 3339 text, the only form that devices and callers may write, and as whole numbers.

Events carry their times as microseconds since the Unix epoch: arithmetic takes a tenth of the time that it
takes with datetimes.
"""

import re
from datetime import UTC, date, datetime, timedelta
from time import time_ns
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# The range that a query may name; its ends also stand for absent bounds.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

_is_rfc3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?"
).fullmatch
_PLUS_READ_AS_SPACE = re.compile(r" (?=[0-9]{2}(?::?[0-9]{2})?$)")
_SECONDS = slice(17, 19)  # of an RFC 3339 text


def parse_instant(text: str) -> datetime:
    """Parse like parse_written; without an offset it is UTC. Raises ValueError."""
    written = parse_written(text)
    return written.replace(tzinfo=UTC) if written.tzinfo is None else written


def parse_written(text: str) -> datetime:
    """Parse RFC 3339 (section 5.6) with `T` or a space; offsets also as `+0100` and `+01`.

    The instant in UTC; without an offset the wall clock as it is written, which has no zone. Digits beyond
    microseconds are dropped; second 60 is the next second. Raises ValueError.
    """
    if _is_rfc3339(text) is None:
        raise ValueError("not an RFC 3339 time such as 2026-02-01T14:23:45Z")
    if text[_SECONDS] == "60":
        return _one_second_after(parse_written(f"{text[:17]}59{text[19:]}"))
    try:
        instant = datetime.fromisoformat(text.upper() if text[-1] == "z" else text)
    except ValueError:
        raise ValueError("no date and time that exists") from None
    if instant.tzinfo is UTC or instant.tzinfo is None:
        return instant
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999") from error


def _one_second_after(instant: datetime) -> datetime:
    try:
        return instant + timedelta(seconds=1)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999") from error


def parse_query_instant(text: str) -> datetime:
    """Parse like parse_instant, but accept a `+` that the query string turned into a space."""
    if len(text) > len("2026-02-01T14:23:45"):
        text = _PLUS_READ_AS_SPACE.sub("+", text)
    return parse_instant(text)


def epoch_us(instant: datetime) -> int:
    """Microseconds since the Unix epoch."""
    return (instant - EPOCH) // MICROSECOND


def from_epoch_us(microseconds: int) -> datetime:
    """Raises OverflowError beyond the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=microseconds)


def now_us() -> int:
    return time_ns() // 1000


def rfc3339(instant: datetime) -> str:
    """Format in UTC, with a fraction only if there is one, as in every response."""
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if instant.microsecond else text}Z"


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
