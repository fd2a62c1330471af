"""Ranges of profiles: the reason of a rejected event names the limit that a value did not keep."""

from math import inf

import pytest

from ingestor.store.registry import Profile
from schema.event import Event, Reason

PROFILE = Profile("pack", {"both": (0, 5), "most": (-inf, 10.5), "least": (-1, inf)})


@pytest.mark.parametrize(
    ("metric", "value", "detail"),
    [
        ("both", 6, "metrics.both: 6 is outside 0 to 5 of profile pack"),
        ("most", 11, "metrics.most: 11 is above the maximum 10.5 of profile pack"),
        ("least", -2.5, "metrics.least: -2.5 is below the minimum -1 of profile pack"),
    ],
)
def test_the_reason_names_the_limits_that_are_set(metric: str, value: float, detail: str) -> None:
    assert PROFILE.fault(event({"free": 1e9, metric: value})) == (Reason.OUT_OF_RANGE, detail)


def test_a_limit_itself_is_in_range() -> None:
    assert PROFILE.fault(event({"both": 5, "most": 10.5, "least": -1})) is None


def event(metrics: dict[str, float]) -> Event:
    return Event("a", "e", 0, metrics, [], None, 0)
