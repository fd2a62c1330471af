"""The own time of an event: the four fields that hold it, and what a refused number looks like. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ingestor.decode.acceptance import AcceptLimits, Origin, RefusedError
from ingestor.decode.wall_clock import nearest_us
from schema.event import Reason
from schema.instants import EPOCH, epoch_us, from_epoch_us, parse_written

TIMES = ("timestamp", "timeStamp", "ts", "age_ms")

_EXPECTED = {
    "timestamp": "a text such as 2026-02-01T14:23:45Z",
    "timeStamp": "a text such as 2026-02-01T14:23:45Z",
    "ts": "an integer, the milliseconds since 1970-01-01T00:00:00Z",
    "age_ms": "an integer from 0 on, the milliseconds before arrival",
}
_PLAUSIBLE_MS = (
    20 * 366 * 86_400_000
)  # A number within twenty years of its arrival is taken for a time.
_UPTIME_MS_MAX = 10 * 366 * 86_400_000
_DIGITS_MAX = 25


class OwnTime(NamedTuple):
    """The time in µs, whether a resend would carry the same one, and `wall_us` as in schema/event.py."""

    us: int
    is_kept: bool
    wall_us: int | None = None


def own_time(body: Mapping[str, Any], origin: Origin, limits: AcceptLimits) -> OwnTime:
    """Raises RefusedError outside the window. A time without offset is inside it in some zone."""
    given = [name for name in TIMES if name in body]
    if len(given) > 1:
        raise RefusedError(Reason.SEVERAL_TIMES, f"{' and '.join(given)}: at most one of them")
    if not given:
        return OwnTime(origin.received_us, is_kept=False)
    name = given[0]
    written = _written(name, body[name], origin)
    if written.tzinfo is not None:
        _require_in_window(written, name, body[name], origin, limits)
        return OwnTime(epoch_us(written), name != "age_ms")
    wall_us = epoch_us(written.replace(tzinfo=UTC))
    nearest = from_epoch_us(nearest_us(wall_us, origin.received_us))
    _require_in_window(nearest, name, body[name], origin, limits)
    return OwnTime(wall_us, is_kept=True, wall_us=wall_us)


def bad_time(name: str, value: Any, origin: Origin) -> RefusedError:
    """The refusal of a value that is no time at all."""
    hint = _looks_like(name, value, origin)
    return RefusedError(Reason.BAD_TIME, f"{name}: {_EXPECTED[name]}{hint}")


def _written(name: str, value: Any, origin: Origin) -> datetime:
    """What one of the four time fields holds; without zone if it is a text without offset."""
    try:
        if name == "age_ms":
            return origin.received_at - timedelta(milliseconds=value)
        if name == "ts":
            return EPOCH + timedelta(milliseconds=value)
        return parse_written(value)
    except (ValueError, OverflowError):
        raise bad_time(name, value, origin) from None


def _require_in_window(
    ts: datetime, name: str, value: Any, origin: Origin, limits: AcceptLimits
) -> None:
    received_at = origin.received_at
    if (too_old := limits.refusal_of_age(received_at - ts)) is not None:
        reason, limit = too_old
        detail = f"{name}: more than {limit.days} days before arrival"
        raise RefusedError(reason, detail + _looks_like(name, value, origin))
    if ts > received_at + limits.max_future:
        seconds = limits.max_future.total_seconds()
        detail = f"{name}: more than {seconds:.0f} s after arrival"
        raise RefusedError(Reason.IN_THE_FUTURE, detail + _looks_like(name, value, origin))


def _looks_like(name: str, value: Any, origin: Origin) -> str:
    """What a refused number looks like, as the end of a sentence; empty if it looks like nothing."""
    number = _number(value)
    if number is None or name == "age_ms":
        return ""
    arrival_ms = origin.received_us / 1000
    for unit, in_ms in (
        ("seconds", number * 1000),
        ("milliseconds", number),
        ("microseconds", number / 1000),
        ("nanoseconds", number / 1_000_000),
    ):
        if abs(in_ms - arrival_ms) <= _PLAUSIBLE_MS:
            if name == "ts" and unit == "milliseconds" and not isinstance(value, str | float):
                return ""  # It is what it should be.
            return f"; {value} looks like {unit}: send ts with {round(in_ms)}, without quotes"
    if 0 <= number <= _UPTIME_MS_MAX:
        return (
            f"; {value} looks like the time since a start: a device without a clock sends age_ms,"
            " or no time"
        )
    return ""


def _number(value: Any) -> float | None:
    """A number that a time may be, also in quotes; None for anything else."""
    if isinstance(value, str) and len(value) <= _DIGITS_MAX and value.isascii():
        try:
            value = float(value) if value.strip("0123456789.") == "" else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -1e21 < value < 1e21 else None  # noqa: PLR2004  # Beyond it no unit fits.
