"""One reader of the feed per process, and the streams that it fans out to.

The reader wakes on NOTIFY, and every second in case one was lost. It keeps the newest items in memory; a
stream takes them from there by number, and only reads older items from the database. So a stream holds
nothing but its position, and a client that does not read costs one kernel buffer until it is disconnected.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import dropwhile
from time import monotonic
from typing import Any

from prometheus_client import Gauge

from schema.feed import FeedItem, follow_feed, newest_id, read_feed

KEPT_ITEMS_MAX = 2000


class FeedReader:
    def __init__(self, dsn: str, pool: Any, name: str, streams: Gauge) -> None:
        self._streams = streams
        self._dsn, self._pool, self._name = dsn, pool, name
        self._kept: deque[FeedItem] = deque(maxlen=KEPT_ITEMS_MAX)
        self._position = 0  # The number read last; 0 before the first read.
        self._changed = asyncio.Condition()
        self._stopped = False

    async def run(self) -> None:
        """Read until cancelled."""
        async for position, items in follow_feed(self._dsn, self._name):
            async with self._changed:
                self._kept.extend(items)
                self._position = position
                self._changed.notify_all()

    async def stop(self) -> None:
        """End every stream, so that the server can close."""
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    async def newest(self) -> int:
        return await newest_id(self._pool)

    async def follow(
        self, after: int, matches: Callable[[FeedItem], bool], heartbeat_s: float
    ) -> AsyncIterator[FeedItem | None]:
        """Every matching item after a number, in order; None after `heartbeat_s` without one."""
        idle_since = monotonic()
        with self._streams.track_inprogress():
            while not self._stopped:
                for item in await self._after(after):
                    after = item.id
                    if matches(item):
                        yield item
                        idle_since = monotonic()
                remaining_s = idle_since + heartbeat_s - monotonic()
                if remaining_s <= 0 or not await self._wait_for_items_after(after, remaining_s):
                    yield None
                    idle_since = monotonic()

    async def _after(self, after: int) -> list[FeedItem]:
        if after >= self._position:
            return []
        if self._kept and self._kept[0].id <= after + 1:
            return list(dropwhile(lambda item: item.id <= after, self._kept))
        return await read_feed(self._pool, after)

    async def _wait_for_items_after(self, after: int, within_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self._stopped or self._position > after)
                return True
        return False
