"""The windows of a question that goes back in time."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from api.reader import OF_A_DEVICE, OF_THE_FLEET, windows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LONG_AGO, FAR = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("spans", [OF_A_DEVICE, OF_THE_FLEET, ()])
@pytest.mark.parametrize("start", [LONG_AGO, NOW - timedelta(days=30), NOW, NOW + timedelta(1)])
def test_the_windows_are_the_range_without_gap_or_overlap(
    start: datetime, spans: tuple[timedelta, ...]
) -> None:
    found = list(windows(start, FAR, NOW, spans))
    assert (found[0][1], found[-1][0]) == (FAR, start)
    assert all(newer[0] == older[1] for newer, older in pairwise(found))
    assert all(lower < upper for lower, upper in found)


def test_the_first_window_begins_shortly_before_the_newest_possible_row() -> None:
    assert next(windows(LONG_AGO, FAR, NOW, OF_THE_FLEET)) == (NOW - timedelta(minutes=1), FAR)
