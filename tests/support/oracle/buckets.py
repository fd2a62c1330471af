"""The buckets of an interval, for the oracle: local midnights are taken from zoneinfo."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
FIXED = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": HOUR}
FIRST_DAY, FIRST_MONDAY = date(1970, 1, 1), date(1970, 1, 5)


class TooManyRows(Exception):
    """The response is 422."""


@cache
def midnight(day: date, tz: str) -> datetime:
    """The earliest instant of a local day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(tz)).astimezone(UTC)


class Buckets:
    """The buckets of an interval, numbered consecutively; counting begins with bucket 0."""

    def __init__(self, interval: str, tz: str) -> None:
        self.count, self.unit = _unit(interval)
        self.tz = tz
        self.length = FIXED.get(self.unit, timedelta()) * self.count

    def start(self, number: int) -> datetime:
        match self.unit:
            case "d":
                return midnight(FIRST_DAY + timedelta(days=self.count * number), self.tz)
            case "w":
                return midnight(FIRST_MONDAY + timedelta(weeks=self.count * number), self.tz)
            case "mo":
                years, months = divmod(self.count * number, 12)
                return midnight(date(1970 + years, months + 1, 1), self.tz)
        return EPOCH + self.length * number

    def number(self, at: datetime) -> int:
        day = at.astimezone(ZoneInfo(self.tz)).date()
        match self.unit:
            case "d":
                guess = (day - FIRST_DAY).days // self.count
            case "w":
                guess = (day - FIRST_MONDAY).days // (7 * self.count)
            case "mo":
                guess = ((day.year - 1970) * 12 + day.month - 1) // self.count
            case _:
                return (at - EPOCH) // self.length
        while self.start(guess) > at:
            guess -= 1
        while self.start(guess + 1) <= at:
            guess += 1
        return guess

    def between(self, start: datetime, end: datetime, most: int = 10**9) -> list[int]:
        """The buckets that overlap [start, end). A skipped local day has none. Raises TooManyRows."""
        numbers = range(self.number(start), self.number(end - MICROSECOND) + 1)
        if most and len(numbers) > most + 2:  # No zone ever skipped more than two days.
            raise TooManyRows
        return [n for n in numbers if self.start(n) < self.start(n + 1)] if most else []


def _unit(interval: str) -> tuple[int, str]:
    unit = interval.lstrip("0123456789")
    return int(interval.removesuffix(unit)), unit
