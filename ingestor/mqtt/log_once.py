"""Whether a log line about something is due, so that no line is repeated too soon."""

from collections.abc import Callable
from time import monotonic


class LogOnce:
    """Once per key in `every_s`; of more than `keys_max` keys in this time, the further ones never."""

    def __init__(
        self, every_s: float, keys_max: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._every_s, self._keys_max, self._clock = every_s, keys_max, clock
        self._logged: dict[str, float] = {}

    def due(self, key: str) -> bool:
        now = self._clock()
        if now - self._logged.get(key, -self._every_s) < self._every_s:
            return False
        if key not in self._logged and len(self._logged) >= self._keys_max:
            self._logged = {
                each: at for each, at in self._logged.items() if now - at < self._every_s
            }
            if len(self._logged) >= self._keys_max:
                return False
        self._logged[key] = now
        return True
