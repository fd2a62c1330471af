"""One reader of the feed per process, and the streams that it fans out to.

The reader wakes on NOTIFY, and every second in case one was lost. It keeps the newest items in memory; a
stream takes them from there by number, and only reads older items from the database. So a stream holds
nothing but its position, and a client that does not read costs one kernel buffer until it is disconnected.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from time import monotonic

from prometheus_client import Gauge

from runtime.errors import Overloaded, TooManyRequests
from schema.database import Pool
from schema.feed import FeedItem, follow_feed, newest_id, read_feed

KEPT_ITEMS_MAX = 2000
SLICE_ITEMS = 100  # Their frames take about 0.1 ms to send.


class FeedReader:
    def __init__(
        self, dsn: str, pool: Pool, name: str, streams: Gauge, *, streams_max: int
    ) -> None:
        self._streams, self._streams_max, self._open_streams = streams, streams_max, 0
        self._held: Counter[str | None] = Counter()
        self._turns = asyncio.Lock()
        self._dsn, self._pool, self._name = dsn, pool, name
        self._kept: deque[FeedItem] = deque(maxlen=KEPT_ITEMS_MAX)
        self._position = 0  # The number read last; 0 before the first read.
        self._changed = asyncio.Condition()
        self._stopped, self._rechecks = False, 0

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

    async def recheck(self) -> None:
        """Let every stream ask now whether it may go on."""
        async with self._changed:
            self._rechecks += 1
            self._changed.notify_all()

    async def newest(self) -> int:
        return await newest_id(self._pool)

    @contextmanager
    def stream_slot(self, holder: str | None) -> Iterator[None]:
        """One of the streams that this process may serve at a time, and half of them for one key.

        `holder` is None while authentication is off. Raises Overloaded, TooManyRequests.
        """
        if self._open_streams >= self._streams_max:
            raise Overloaded("Too many streams are open (STREAMS_MAX); retry.", retry_after_s=5)
        if holder is not None and self._held[holder] >= max(1, self._streams_max // 2):
            raise TooManyRequests(
                "This key has half of all streams open (STREAMS_MAX); retry.", retry_after_s=5
            )
        self._open_streams += 1
        self._held[holder] += 1
        try:
            with self._streams.track_inprogress():
                yield
        finally:
            self._open_streams -= 1
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]

    async def follow(
        self,
        after: int,
        matches: Callable[[FeedItem], bool],
        heartbeat_s: float,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> AsyncIterator[Sequence[FeedItem]]:
        """The matching items after a number, in order and in slices; none after `heartbeat_s` without one.

        The streams take turns, a slice for each turn of the event loop, so that other requests are
        answered in between however many streams there are.
        """
        idle_since = monotonic()
        while not self._stopped and may_go_on():
            items = await self._after(after)
            for n in range(0, len(items), SLICE_ITEMS):
                await self._turn()
                part = items[n : n + SLICE_ITEMS]
                after = part[-1].id
                if found := [item for item in part if matches(item)]:
                    yield found
                    idle_since = monotonic()
            remaining_s = idle_since + heartbeat_s - monotonic()
            if remaining_s <= 0 or not await self._wait_for_items_after(after, remaining_s):
                yield ()
                idle_since = monotonic()

    async def _turn(self) -> None:
        async with self._turns:
            await asyncio.sleep(0)

    async def _after(self, after: int) -> list[FeedItem]:
        if after >= self._position:
            return []
        if self._kept and self._kept[0].id <= after + 1:
            newer = list(takewhile(lambda item: item.id > after, reversed(self._kept)))
            return newer[::-1]
        return await read_feed(self._pool, after)

    async def _wait_for_items_after(self, after: int, within_s: float) -> bool:
        seen = self._rechecks

        def is_reason_to_look() -> bool:
            return self._stopped or self._position > after or self._rechecks != seen

        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(is_reason_to_look)
                return True
        return False
