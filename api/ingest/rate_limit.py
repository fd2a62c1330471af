"""The rate limit per device: a sliding window over accepted posts, in this process only."""

import math
from collections import OrderedDict, deque
from contextlib import suppress

from runtime.errors import TooManyRequests

TRACKED_DEVICES_MAX = 100_000  # Beyond it the device with the oldest post is evicted.


class RateLimiter:
    """At most `requests` accepted posts per device in any `window_s` seconds."""

    def __init__(self, requests: int, window_s: float) -> None:
        self._requests, self._window_s = requests, window_s
        self._accepted: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, device_id: str, now: float) -> None:
        """Count one post at `now` (monotonic seconds). Raises TooManyRequests and then does not count it."""
        times = self._accepted.setdefault(device_id, deque())
        while times and times[0] <= now - self._window_s:
            times.popleft()
        if len(times) >= self._requests:
            wait_s = math.ceil(times[0] + self._window_s - now)
            raise TooManyRequests(
                f"The limit is {self._requests} posts of {device_id} in {self._window_s:g} s; retry later.",
                retry_after_s=max(1, wait_s),
            )
        times.append(now)
        self._accepted.move_to_end(device_id)
        if len(self._accepted) > TRACKED_DEVICES_MAX:
            self._accepted.popitem(last=False)

    def give_back(self, device_id: str, taken_at: float) -> None:
        """Undo `take` for a post that was not accepted in the end."""
        with suppress(KeyError, ValueError):
            self._accepted[device_id].remove(taken_at)
