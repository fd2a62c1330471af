"""Queries of a page, one after the other, while something else is measured."""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Self
from urllib.parse import urlencode

PATHS = (
    "/v1/devices/d1/latest",
    "/v1/devices/d2/events?limit=100",
    "/v1/search?tag=room:101&limit=100",
    "/v1/metrics/aggregate?metric=soc_percent&device_id=d3&interval=5m&",  # The range follows.
    "/v1/latest?limit=100",
)
DAY_S, PAUSE_S, ANSWER_S_MAX = 86_400, 0.05, 30


class QueryLoad:
    """Asks from `with` until its end. `ms` has the time until the last byte of each response."""

    def __init__(self, port: int) -> None:
        self.ms: list[float] = []
        self._port = port
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._asking = self._pool.submit(self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        """Raises RuntimeError if a query was refused."""
        self._ended.set()
        self._pool.shutdown()
        self._asking.result()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S_MAX)
        for path in cycle(PATHS):
            began = time.perf_counter()
            connection.request("GET", path + _last_day() if path.endswith("&") else path)
            response = connection.getresponse()
            body = response.read()
            if response.status != http.client.OK:
                raise RuntimeError(f"{path}: {response.status} {body[:500]!r}")
            self.ms.append((time.perf_counter() - began) * 1e3)
            if self._ended.wait(PAUSE_S):
                break
        connection.close()


def _last_day() -> str:
    now = int(time.time())
    return urlencode({"from_time": _instant(now - DAY_S), "to_time": _instant(now)})


def _instant(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
