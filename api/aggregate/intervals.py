"""The intervals that `interval=auto` chooses from, and that a refusal proposes. Pure."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from api.aggregate.buckets import buckets

AUTO = "auto"
INTERVALS = (
    *(f"{number}{unit}" for unit in "sm" for number in (1, 2, 5, 10, 15, 30)),
    *(f"{hours}h" for hours in (1, 2, 3, 6, 12)),
    "1d", "1w", "1mo", "3mo", "12mo",
)  # fmt: skip


def fitting(buckets_max: int, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[str]:
    """The intervals that divide a range into at most so many buckets, the shortest first."""
    for interval in INTERVALS:
        if buckets(interval, zone, start, end).number(start, end) <= buckets_max:
            yield interval
