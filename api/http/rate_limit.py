"""Rate limits by name: a sliding window per device or address, in this process only."""

import math
from collections import OrderedDict, deque
from contextlib import suppress

from runtime.errors import TooManyRequests

TRACKED_MAX = 100_000  # Names; beyond it the one that was counted longest ago is evicted.


class RateLimiter:
    """At most `count_max` of `what` per name in any `window_s` seconds."""

    def __init__(self, count_max: int, window_s: float, what: str = "posts") -> None:
        self._count_max, self._window_s, self._what = count_max, window_s, what
        self._counted: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, name: str, now: float) -> None:
        """Count one at `now` (monotonic seconds). Raises TooManyRequests and then does not count it."""
        times = self._counted.get(name)
        if times is None:
            times = self._counted[name] = deque()
        while times and times[0] <= now - self._window_s:
            times.popleft()
        if len(times) >= self._count_max:
            wait_s = math.ceil(times[0] + self._window_s - now)
            raise TooManyRequests(
                f"The limit is {self._count_max} {self._what} of {name} in {self._window_s:g} s;"
                " retry later.",
                retry_after_s=max(1, wait_s),
            )
        times.append(now)
        self._counted.move_to_end(name)
        if len(self._counted) > TRACKED_MAX:
            self._counted.popitem(last=False)

    def give_back(self, name: str, taken_at: float) -> None:
        """Undo `take` for what does not count in the end."""
        with suppress(KeyError, ValueError):
            self._counted[name].remove(taken_at)
