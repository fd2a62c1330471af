"""Limits by docs/http-api.md#rate-limit: how many posts of a device are accepted in any window."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http import rate_limit
from api.http.rate_limit import RateLimiter
from runtime.errors import TooManyRequests

properties = settings(max_examples=30, deadline=None, database=None)

# Eighths of a second, so that sums and differences are exact.
STEPS = st.lists(st.integers(0, 12).map(lambda eighths: eighths / 8), max_size=60)


def accepted(limiter: RateLimiter, device_id: str, now: float) -> bool:
    try:
        limiter.take(device_id, now)
    except TooManyRequests:
        return False
    return True


def retry_after_s(limiter: RateLimiter, now: float) -> int | None:
    try:
        limiter.take("a", now)
    except TooManyRequests as refused:
        return refused.retry_after_s
    return None


def instants(steps: Sequence[float]) -> list[float]:
    return [1000 + sum(steps[: end + 1]) for end in range(len(steps))]


@properties
@given(st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.5]), STEPS)
def test_a_post_is_refused_exactly_if_the_window_before_it_is_full(
    requests: int, window_s: float, steps: list[float]
) -> None:
    limiter = RateLimiter(requests, window_s)
    taken: list[float] = []
    for now in instants(steps):
        in_window = sum(now - before < window_s for before in taken)
        assert accepted(limiter, "a", now) is (in_window < requests)
        if in_window < requests:
            taken.append(now)
    for first, beyond in zip(taken, taken[requests:], strict=False):
        assert beyond - first >= window_s, "more than the limit within one window"


@properties
@given(st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.5]), STEPS)
def test_a_client_that_waits_for_retry_after_is_counted(
    requests: int, window_s: float, steps: list[float]
) -> None:
    limiter = RateLimiter(requests, window_s)
    for now in instants(steps):
        wait_s = retry_after_s(limiter, now)
        if wait_s is not None:
            assert 1 <= wait_s < window_s + 1
            limiter.take("a", now + wait_s)
            return


@properties
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4).map(lambda n: n / 8))))
def test_devices_do_not_see_each_other(posts: list[tuple[str, float]]) -> None:
    together = RateLimiter(2, 1.0)
    alone = {device_id: RateLimiter(2, 1.0) for device_id in "abc"}
    now = 1000.0
    for device_id, step in posts:
        now += step
        assert accepted(together, device_id, now) is accepted(alone[device_id], device_id, now)


def test_ten_posts_a_second_and_the_eleventh_is_refused() -> None:
    limiter = RateLimiter(10, 1.0)
    for post in range(10):
        limiter.take("deviceA", 5 + post / 100)
    with pytest.raises(TooManyRequests, match="The limit is 10 posts of deviceA in 1 s") as refused:
        limiter.take("deviceA", 5.5)
    assert refused.value.retry_after_s == 1


def test_the_window_slides() -> None:
    limiter = RateLimiter(2, 10.0)
    assert [accepted(limiter, "a", now) for now in (0.0, 9.0, 9.5, 10.0, 18.5, 19.0)] == [
        True,
        True,
        False,
        True,  # The post of second 0 has left the window.
        False,
        True,
    ]


def test_refused_posts_do_not_count() -> None:
    limiter = RateLimiter(1, 1.0)
    assert accepted(limiter, "a", 0.0)
    assert not any(accepted(limiter, "a", tick / 100) for tick in range(1, 100))
    assert accepted(limiter, "a", 1.0)


def test_a_post_that_was_not_counted_after_all_does_not_count() -> None:
    limiter = RateLimiter(2, 1.0)
    limiter.take("a", 0.0)
    for _ in range(10):
        limiter.take("a", 0.5)
        limiter.give_back("a", 0.5)
    limiter.take("a", 0.5)
    assert not accepted(limiter, "a", 0.5)
    assert accepted(limiter, "a", 1.0)


def test_the_older_of_two_posts_in_flight_may_be_given_back() -> None:
    limiter = RateLimiter(2, 1.0)
    limiter.take("a", 0.0)
    limiter.take("a", 0.875)
    limiter.give_back("a", 0.0)  # The post of 0.0 was rejected; that of 0.875 was stored.
    limiter.take("a", 1.0)
    assert not accepted(limiter, "a", 1.5), "0.875, 1.0 and 1.5 lie within one second"


def test_giving_back_a_post_that_was_not_taken_is_harmless() -> None:
    limiter = RateLimiter(1, 1.0)
    limiter.give_back("a", 0.0)
    limiter.take("a", 0.0)
    limiter.give_back("a", 0.0)
    limiter.give_back("a", 0.0)
    limiter.take("a", 0.0)
    assert not accepted(limiter, "a", 0.0)


def test_memory_is_bounded_per_device() -> None:
    limiter = RateLimiter(3, 1.0)
    for tick in range(1000):
        accepted(limiter, "a", tick / 8)
    assert len(limiter._counted["a"]) <= 3


def test_beyond_the_limit_the_device_with_the_oldest_post_is_evicted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "TRACKED_MAX", 3)
    limiter = RateLimiter(2, 1000.0)
    for now, device_id in enumerate("abcac"):
        limiter.take(device_id, float(now))
    assert not accepted(limiter, "a", 5.0)  # A refused post does not count as a post.
    limiter.take("d", 6.0)
    assert set(limiter._counted) == {"a", "c", "d"}
    limiter.take("e", 7.0)
    assert set(limiter._counted) == {"c", "d", "e"}
    assert not accepted(limiter, "c", 8.0)
    assert accepted(limiter, "a", 8.0)
    for other in range(100):
        limiter.take(f"s{other}", 9.0)
    assert len(limiter._counted) == 3
