"""The starts of buckets as texts. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from api.aggregate.buckets import Offset

MICROSECOND, DAY_US = timedelta(microseconds=1), 86_400_000_000
# The binary form of an instant counts microseconds from here.
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
POSTGRES_DAY = POSTGRES_EPOCH.toordinal()
_TWO_DIGITS = [f"{number:02}" for number in range(60)]


class BucketTexts:
    """Texts in the offsets of a time zone. The text of a day is made once, that of a time of day, too."""

    def __init__(self, offsets: Sequence[Offset]) -> None:
        self._changes = [(offset.since - POSTGRES_EPOCH) // MICROSECOND for offset in offsets]
        self._shifts = [offset.amount // MICROSECOND for offset in offsets]
        self._times = [_Times(offset.text) for offset in offsets]

    def of(self, starts: Sequence[int]) -> list[str]:
        """The texts of ascending starts, which are microseconds since 2000."""
        texts: list[str] = []
        while len(texts) < len(starts):
            first = len(texts)
            place = max(0, bisect_right(self._changes, starts[first]) - 1)
            day = (starts[first] + self._shifts[place]) // DAY_US
            midnight = day * DAY_US - self._shifts[place]
            end = min([midnight + DAY_US, *self._changes[place + 1 : place + 2]])
            last, times = bisect_left(starts, end, first), self._times[place]
            text = date.fromordinal(POSTGRES_DAY + day).isoformat()
            texts += [text + times[start - midnight] for start in starts[first:last]]
        return texts


class _Times(dict[int, str]):
    """The text of a time of day by its microseconds."""

    def __init__(self, offset: str) -> None:
        self._offset = offset

    def __missing__(self, us: int) -> str:
        minutes, second = divmod(us // 1_000_000, 60)
        hour, minute = divmod(minutes, 60)
        text = f"T{_TWO_DIGITS[hour]}:{_TWO_DIGITS[minute]}:{_TWO_DIGITS[second]}{self._offset}"
        self[us] = text
        return text
