"""The starts of buckets as texts. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest

from api.aggregate.buckets import Offset

MICROSECOND, DAY_US = timedelta(microseconds=1), 86_400_000_000
# The binary form of an instant counts microseconds from here.
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
POSTGRES_DAY = POSTGRES_EPOCH.toordinal()
_TWO_DIGITS = [f"{number:02}" for number in range(60)]


class BucketTexts:
    """Texts in the offsets of a time zone. The text of a day is made once, that of a time of day, too."""

    def __init__(self, offsets: Sequence[Offset]) -> None:
        self._offsets = [
            (
                (offset.since - POSTGRES_EPOCH) // MICROSECOND,
                offset.amount // MICROSECOND,
                _Times(offset.text),
            )
            for offset in offsets
        ]

    def of(self, starts: Sequence[int]) -> list[str]:
        """The texts of ascending starts, which are microseconds since 2000."""
        texts: list[str] = []
        for (_, shift, times), following in zip_longest(self._offsets, self._offsets[1:]):
            last = bisect_left(starts, following[0]) if following else len(starts)
            while (first := len(texts)) < last:
                day = (starts[first] + shift) // DAY_US
                midnight = day * DAY_US - shift
                date_text = date.fromordinal(POSTGRES_DAY + day).isoformat()
                of_day = starts[first : bisect_left(starts, midnight + DAY_US, first, last)]
                texts += [date_text + times[start - midnight] for start in of_day]
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
