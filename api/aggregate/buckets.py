"""Time buckets: fixed lengths from the Unix epoch, and calendar periods of a time zone. Pure.

Calendar buckets are computed here and passed to the database as a list of instants, so that a day has one
meaning everywhere: it begins at local midnight or, if that does not exist or exists twice, at the first
instant that belongs to the day.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from runtime.errors import InvalidRequest
from schema.instants import EPOCH, local_midnight

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CENTURY = timedelta(days=36_525)
EPOCH_DAY, EPOCH_MONDAY = date(1970, 1, 1), date(1970, 1, 5)
MONTHS_OF_YEAR = 12

_INTERVAL = re.compile(r"([1-9][0-9]{0,9})(s|m|h|d|w|mo)")
_FIXED_S = {"s": 1, "m": 60, "h": 3600}
_DAYS = {"d": 1, "w": 7, "mo": CENTURY.days / 1200}


@dataclass(frozen=True, slots=True)
class Fixed:
    """Buckets of one length, counted from the Unix epoch."""

    length: timedelta

    @property
    def whole_hours(self) -> bool:
        """Whether every bucket begins on a whole hour."""
        return self.length % HOUR == timedelta(0)

    def first(self, start: datetime) -> datetime:
        """The start of the bucket that an instant belongs to."""
        return start - (start - EPOCH) % self.length

    def number(self, start: datetime, end: datetime) -> int:
        """How many buckets overlap the half-open range."""
        return -((EPOCH - end) // self.length) - (start - EPOCH) // self.length


@dataclass(frozen=True, slots=True)
class Calendar:
    """The buckets that overlap a range. `bounds` are their starts in UTC and the end of the last one."""

    bounds: list[datetime]

    def first(self, _: datetime) -> datetime:
        """The start of the first bucket."""
        return self.bounds[0]

    def number(self, *_: datetime) -> int:
        return len(self.bounds) - 1

    def split_hours(self, start: datetime, end: datetime) -> list[datetime]:
        """The hours of UTC between two whole hours that a bucket's start splits."""
        first = bisect_right(self.bounds, start)
        split = []
        for bound in self.bounds[first:]:
            hour = whole_hour(bound)
            if bound >= end:
                break
            if hour != bound:
                split.append(hour)
        return split


Buckets = Fixed | Calendar


class Offset(NamedTuple):
    """The offset of a time zone from an instant on, in whole minutes, with its form in RFC 3339."""

    since: datetime
    amount: timedelta
    text: str


def buckets(interval: str, zone: ZoneInfo, start: datetime, end: datetime) -> Buckets:
    """The buckets of an interval such as 30s, 5m, 1h, 1d, 2w or 1mo in a range. Raises InvalidRequest."""
    found = _INTERVAL.fullmatch(interval)
    if found is None:
        raise InvalidRequest(
            "interval: it must be a number and s, m, h, d, w or mo, for instance 30s, 5m, 1h, 1d, 1mo."
        )
    size, unit = int(found[1]), found[2]
    days = size * _FIXED_S[unit] / 86_400 if unit in _FIXED_S else size * _DAYS[unit]
    if days > CENTURY.days:
        raise InvalidRequest("interval: it must be at most a century.")
    if unit in _FIXED_S:
        return Fixed(timedelta(seconds=size * _FIXED_S[unit]))
    return Calendar(_bounds(size, unit, zone, start, end))


def offset_changes(zone: ZoneInfo, start: datetime, end: datetime) -> list[Offset]:
    """The offsets of a zone in a range, assuming at most one change per day."""
    changes = [(start, _offset(zone, start))]
    at = end if zone.key == "UTC" else start
    while at < end:
        later = min(at + DAY, end)
        if _offset(zone, later) != changes[-1][1]:
            changes.append((_change(zone, at, later), _offset(zone, later)))
        at = later
    return [Offset(since, amount, _offset_text(amount, zone)) for since, amount in changes]


def _offset_text(amount: timedelta, zone: ZoneInfo) -> str:
    if zone.key == "UTC":
        return "Z"
    hours, minutes = divmod(abs(amount) // timedelta(minutes=1), 60)
    return f"{'-' if amount < timedelta() else '+'}{hours:02}:{minutes:02}"


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second in which the offset of `after` began."""
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if _offset(zone, middle) == _offset(zone, after):
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    """Cut to whole minutes: zones had offsets with seconds before 1972, but RFC 3339 has none."""
    offset = at.astimezone(zone).utcoffset() or timedelta()
    return offset // timedelta(minutes=1) * timedelta(minutes=1)


def whole_hour(at: datetime) -> datetime:
    """The hour of UTC that an instant belongs to."""
    return at - (at - EPOCH) % HOUR


def _bounds(size: int, unit: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """The bounds of the periods that overlap the range.

    If clocks go back over midnight, the local date of `start` may be that of a day that is already over;
    a day that a zone skipped has no length and is left out.
    """
    number = _index(size, unit, start.astimezone(zone).date()) - 1
    bounds = [local_midnight(_first_day(size, unit, number), zone)]
    while bounds[-1] < end:
        number += 1
        bound = local_midnight(_first_day(size, unit, number), zone)
        if bound <= start:
            bounds = [bound]
        elif bound > bounds[-1]:
            bounds.append(bound)
    return bounds


def _index(size: int, unit: str, day: date) -> int:
    """The number of the period that a day belongs to."""
    if unit == "mo":
        return ((day.year - EPOCH_DAY.year) * MONTHS_OF_YEAR + day.month - 1) // size
    origin = EPOCH_MONDAY if unit == "w" else EPOCH_DAY
    return (day - origin).days // int(size * _DAYS[unit])


def _first_day(size: int, unit: str, number: int) -> date:
    if unit == "mo":
        year, month = divmod(number * size, MONTHS_OF_YEAR)
        return date(EPOCH_DAY.year + year, month + 1, 1)
    origin = EPOCH_MONDAY if unit == "w" else EPOCH_DAY
    return origin + timedelta(days=number * size * _DAYS[unit])
