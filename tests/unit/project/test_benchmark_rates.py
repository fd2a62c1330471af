"""The ratio of two benchmark runs compares the same measure."""

import pytest

from benchmarks.ingest import Rates


def rates(whole: float, sustained: float | None) -> Rates:
    return Rates(whole, sustained, ingest_us=0, server_us=0)


@pytest.mark.parametrize(
    ("full", "empty", "ratio"),
    [
        (rates(60, 80), rates(90, 100), 0.8),
        (rates(60, 80), rates(90, None), 60 / 90),
        (rates(60, None), rates(90, 100), 60 / 90),
        (rates(60, None), rates(90, None), 60 / 90),
    ],
)
def test_a_sustained_rate_is_never_divided_by_a_whole_one(
    full: Rates, empty: Rates, ratio: float
) -> None:
    assert full.ratio_to(empty) == ratio
