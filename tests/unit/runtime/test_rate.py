"""A rate per key: the average holds, a burst passes, and memory is bounded."""

from runtime.rate import RateLimit


def taken(limit: RateLimit, amounts: list[int], now: float, key: str = "a") -> list[bool]:
    return [limit.take(key, amount, now) for amount in amounts]


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    limit = RateLimit(per_s=2, burst_s=10)
    assert taken(limit, [20, 1], now=100) == [True, False]
    assert taken(limit, [1, 1], now=100.5) == [True, False]
    assert taken(limit, [2, 1], now=101.5) == [True, False]
    assert taken(limit, [20, 1], now=200) == [True, False]


def test_on_average_no_more_than_the_rate_passes_however_it_is_asked_for() -> None:
    limit = RateLimit(per_s=5, burst_s=10)
    passed = sum(limit.take("a", 3, n / 10) * 3 for n in range(10_000))  # 30 a second, for 1,000 s.
    assert 5 * 1000 - 3 <= passed <= 5 * (1000 + 10)


def test_what_is_refused_costs_nothing() -> None:
    limit = RateLimit(per_s=1, burst_s=10)
    assert taken(limit, [10, 5, 5, 5], now=0) == [True, False, False, False]
    assert limit.take("a", 5, now=5)


def test_an_amount_above_the_burst_passes_a_full_bucket_alone_and_is_paid_for() -> None:
    limit = RateLimit(per_s=1, burst_s=10)
    assert taken(limit, [1, 1000], now=0) == [True, False]
    assert limit.take("a", 1000, now=1)
    assert not limit.take("a", 1, now=990)
    assert limit.take("a", 1, now=992)


def test_each_key_has_its_own_rate() -> None:
    limit = RateLimit(per_s=1, burst_s=1)
    assert [limit.take(each, 1, 0) for each in "abab"] == [True, True, False, False]


def test_full_buckets_are_forgotten_at_the_limit_of_keys() -> None:
    limit = RateLimit(per_s=1, burst_s=10, keys_max=100)
    for number in range(1000):
        assert limit.take(f"k{number}", 10, now=number)
        assert len(limit._full_at) <= 100
    assert not limit.take("k999", 10, now=1000)  # It is in use, and so not forgotten.


def test_memory_is_bounded_even_if_every_bucket_is_in_use() -> None:
    limit = RateLimit(per_s=1, burst_s=10, keys_max=100)
    for number in range(1000):
        assert limit.take(f"k{number}", 10, now=0)
        assert len(limit._full_at) <= 100
