"""A rate per key, with bursts: a token bucket for each."""

KEYS_MAX = (
    100_000  # About 15 MB. Beyond it keys with a full bucket are forgotten, which changes nothing.
)


class RateLimit:
    """`per_s` on average, and up to what `burst_s` seconds bring at once.

    An amount above the burst fits into a full bucket: it cannot be divided, and would otherwise never pass.
    The bucket is then empty for as long as the whole amount takes.
    """

    def __init__(self, per_s: float, burst_s: float, keys_max: int = KEYS_MAX) -> None:
        self._per_s, self._burst_s, self._keys_max = per_s, burst_s, keys_max
        self._full_at: dict[str, float] = {}  # When the bucket of a key is full again.

    def take(self, key: str, amount: int, now: float) -> bool:
        """Whether the key may have this amount at `now` (monotonic seconds); a refused one costs nothing."""
        missing_s = max(0.0, self._full_at.get(key, now) - now)
        cost_s = amount / self._per_s
        if missing_s and missing_s + cost_s > self._burst_s:
            return False
        if key not in self._full_at and len(self._full_at) >= self._keys_max:
            self._forget_full(now)
        self._full_at[key] = now + missing_s + cost_s
        return True

    def _forget_full(self, now: float) -> None:
        """If more than half of all buckets are in use, every key gets a full one: memory is bounded first."""
        in_use = {key: at for key, at in self._full_at.items() if at > now}
        self._full_at = in_use if len(in_use) <= self._keys_max // 2 else {}
