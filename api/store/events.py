"""Events as the API lists them, read in windows of time that reach further and further back."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from api.store.database import QUERY_S_MAX, Database
from api.store.devices import KnownDevice
from api.store.retention import first_needed, require_kept
from runtime.errors import InvalidRequest
from schema.instants import EARLIEST, LATEST
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


class EventStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(
        self,
        device: KnownDevice,
        start: datetime | None,
        end: datetime | None,
        *,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Any]:
        """Return events, the newest first, and one more than `limit` if there is another page."""
        key = after or (LATEST, LAST_KEY)
        return await self._newest_first(
            queries.device_events, device[:2], start, end, key, limit, DEVICE_WINDOWS
        )

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
        async with self._database.heavy_query_slot():
            return await self._newest_first(
                queries.search_events, (tags,), start, end, key, limit, FLEET_WINDOWS
            )

    async def metrics(self, device: KnownDevice, start: datetime, end: datetime) -> str:
        """The points of a device as JSON text, oldest first."""
        body = await self._database.fetch_value(
            queries.device_metrics, *device[:2], start, end, METRICS_POINTS_MAX
        )
        await self._require_kept(start)
        return str(body)

    async def _newest_first(
        self,
        query: str,
        subject: Sequence[Any],
        start: datetime | None,
        end: datetime | None,
        key: Sequence[Any],
        limit: int,
        spans: Sequence[timedelta],
    ) -> list[Any]:
        """The rows after a key whose first part is a time; one more than `limit` if there are more."""
        first, last = start or EARLIEST, end or LATEST
        newest = min(last, key[0], datetime.now(UTC))
        rows: list[Any] = []
        began = monotonic()
        for window in lookback_windows(first, last, newest, spans):
            if monotonic() - began > QUERY_S_MAX:
                raise InvalidRequest(
                    f"The query takes longer than {QUERY_S_MAX:.0f} s; request a shorter range."
                )
            missing = limit + 1 - len(rows)
            rows += await self._database.fetch(query, *subject, *window, *key, missing)
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
