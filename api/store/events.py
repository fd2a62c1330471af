"""Events as the API lists them, read in windows of time that reach further and further back."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import monotonic
from typing import Any

import asyncpg
import msgspec

from api.store.database import QUERY_S_MAX, Database, constant
from api.store.devices import KnownDevice, no_device
from api.store.retention import first_needed, require_kept
from runtime.errors import InvalidRequest
from schema.instants import EARLIEST, LATEST, MICROSECOND
from schema.queries import load_queries

METRICS_POINTS_MAX = 50_000
LAST_KEY = "\U0010ffff"
# How far back the windows of a query reach; the last window is everything before them.
DEVICE_WINDOWS = (  # An index reads them in order, so windows only spare partitions.
    timedelta(days=7),
    timedelta(days=90),
)
# Rows of the fleet are sorted after they are read: a tag of every event fills a page within minutes.
FLEET_WINDOWS = tuple(timedelta(minutes=4**n) for n in range(11))

queries = load_queries("api.store", "events.sql")
JSON_METRICS = queries.event_body.format(metrics="json_metrics(metrics)")
PLAIN_METRICS = queries.event_body.format(metrics="replace(numbers, ' ', '')")
STATEMENTS_MAX = 2  # Kept texts, of this day and the one before.
SEARCH_EVENTS = queries.search_events.format(body=JSON_METRICS)

# The rows of one window of time, at most so many: [start, end) and the number of rows.
ReadWindow = Callable[[datetime, datetime, int], Awaitable[Sequence[Any]]]


@lru_cache(STATEMENTS_MAX)
def newest_events(start: datetime) -> str:
    """The events of a device since an instant that is the same for all devices."""
    return str(queries.device_events.format(body=PLAIN_METRICS, start=constant(start)))


def device_events(body: str) -> str:
    return str(queries.device_events.format(body=body, start="$6"))


class _Key(msgspec.Struct):
    """The members of an event by which a list of one device is sorted."""

    timestamp: str
    event_id: str


_key = msgspec.json.Decoder(_Key)


class EventStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(
        self,
        device_id: str,
        start: datetime | None,
        end: datetime | None,
        *,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[dict[str, str]]:
        """Return events, the newest first, and one more than `limit` if there is another page.

        Raises NotFound.
        """
        key = after or (LATEST, LAST_KEY)
        today = _end_of_day(datetime.now(UTC))

        async def read(first: datetime, last: datetime, most: int) -> list[dict[str, str]]:
            rest = min(last, key[0] + MICROSECOND), *key, most
            if first == today - DEVICE_WINDOWS[0]:
                found = await self._database.look_up(newest_events(first), device_id, *rest)
            else:
                found = await self._in_range(PLAIN_METRICS, device_id, *rest, first)
            if found is not None and found["unusual"]:
                found = await self._in_range(JSON_METRICS, device_id, *rest, first)
            if found is None:
                raise no_device(device_id)
            return [{"body": body} for body in found["bodies"]]

        newest = min(end or LATEST, _end_of_day(key[0]), today)
        return await self._newest_first(read, start, end, newest, limit, DEVICE_WINDOWS)

    async def _in_range(self, body: str, *arguments: Any) -> asyncpg.Record | None:
        return await self._database.fetch_row(device_events(body), *arguments)

    async def search(
        self,
        tags: str,
        start: datetime | None,
        end: datetime | None,
        *,
        after: tuple[datetime, str, int] | None,
        limit: int,
    ) -> list[Any]:
        """Return events like `events`, of all devices. `tags` is a tsquery over whole tags."""
        key = after or (LATEST, LAST_KEY, 0)

        async def read(first: datetime, last: datetime, most: int) -> list[Any]:
            return await self._database.fetch(SEARCH_EVENTS, tags, first, last, *key, most)

        async with self._database.heavy_query_slot():
            newest = min(end or LATEST, key[0], datetime.now(UTC))
            return await self._newest_first(read, start, end, newest, limit, FLEET_WINDOWS)

    async def metrics(self, device: KnownDevice, start: datetime, end: datetime) -> str:
        """The points of a device as JSON text, oldest first."""
        body = await self._database.fetch_value(
            queries.device_metrics, *device[:2], start, end, METRICS_POINTS_MAX
        )
        await self._require_kept(start)
        return str(body)

    async def _newest_first(
        self,
        read: ReadWindow,
        start: datetime | None,
        end: datetime | None,
        newest: datetime,
        limit: int,
        spans: Sequence[timedelta],
    ) -> list[Any]:
        """The rows, one more than `limit` if there are more. They are expected shortly before `newest`."""
        first, last = start or EARLIEST, end or LATEST
        rows: list[Any] = []
        began = monotonic()
        for window in lookback_windows(first, last, newest, spans):
            if monotonic() - began > QUERY_S_MAX:
                raise InvalidRequest(
                    f"The query takes longer than {QUERY_S_MAX:.0f} s; request a shorter range."
                )
            rows += await read(*window, limit + 1 - len(rows))
            if len(rows) > limit:
                break
        needed = first_needed(start, end)
        if needed is not None:
            await self._require_kept(needed)
        return rows

    async def _require_kept(self, start: datetime) -> None:
        """Raises RawEventsDropped if raw events from `start` on are no longer kept.

        It runs after the query that it protects: retention commits the floor before it drops a
        partition, so a query that missed the partition is followed by one that sees the new floor.
        """
        require_kept(start, await self._database.fetch_value(queries.floor_of_raw_events))


def key_of(event: str) -> list[str]:
    """The key of an event in a list of one device, from its JSON."""
    found = _key.decode(event)
    return [found.timestamp, found.event_id]


def _end_of_day(at: datetime) -> datetime:
    """The end of its day in UTC, so that windows begin at the same instant all day."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def lookback_windows(
    start: datetime, end: datetime, newest: datetime, spans: Sequence[timedelta]
) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in half-open windows, newest first; each begins one of `spans` before `newest`."""
    upper = end
    for span in spans:
        if newest - start <= span:
            break
        yield newest - span, upper
        upper = newest - span
    yield start, upper
