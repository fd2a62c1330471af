"""One reader of the feed per process, and the streams that it fans out to.

The reader wakes by NOTIFY, and every second in case one was lost. What it read last it keeps: a stream
goes through that by number and asks the database only for what is older. So a stream holds nothing but
its place, and a client that does not read costs one buffer of the kernel until it is cut off.
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

KEPT_ITEMS = 2000


class FeedReader:
    def __init__(self, dsn: str, pool: Any, name: str, streams: Gauge) -> None:
        self._streams = streams
        self._dsn, self._pool, self._name = dsn, pool, name
        self._kept: deque[FeedItem] = deque(maxlen=KEPT_ITEMS)
        self._place = 0  # the number read last; 0: nothing is known yet
        self._news = asyncio.Condition()
        self._stopped = False

    async def run(self) -> None:
        """Read until cancelled."""
        async for place, items in follow_feed(self._dsn, self._name):
            async with self._news:
                self._kept.extend(items)
                self._place = place
                self._news.notify_all()

    async def stop(self) -> None:
        """End every stream, so that the server can close."""
        async with self._news:
            self._stopped = True
            self._news.notify_all()

    async def newest(self) -> int:
        return await newest_id(self._pool)

    async def follow(
        self, after: int, wanted: Callable[[FeedItem], bool], heartbeat_s: float
    ) -> AsyncIterator[FeedItem | None]:
        """Every wanted item after a number, in order; None when nothing was told for a while."""
        quiet_since = monotonic()
        with self._streams.track_inprogress():
            while not self._stopped:
                for item in await self._after(after):
                    after = item.id
                    if wanted(item):
                        yield item
                        quiet_since = monotonic()
                rest_s = quiet_since + heartbeat_s - monotonic()
                if rest_s <= 0 or not await self._told_after(after, rest_s):
                    yield None
                    quiet_since = monotonic()

    async def _after(self, after: int) -> list[FeedItem]:
        if after >= self._place:
            return []
        if self._kept and self._kept[0].id <= after + 1:
            return list(dropwhile(lambda item: item.id <= after, self._kept))
        return await read_feed(self._pool, after)

    async def _told_after(self, after: int, within_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(lambda: self._stopped or self._place > after)
                return True
        return False
