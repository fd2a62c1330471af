"""The end of the hours with rollups, as a bound that spares queries a round trip and most partitions."""

from datetime import datetime
from time import monotonic

from api.store.database import Database
from schema.queries import load_queries

REMEMBERED_S_MAX = 60.0  # Behind an older one a query would read events instead of rollups.

queries = load_queries("api.store", "closed_hour.sql")


class ClosedHour:
    """One per store. The hour only grows, so an older one is a safe bound.

    Only a database that was restored from a dump can have an earlier one. So a query returns the hour of its
    own snapshot, and its caller checks with `held` whether the bound was right; if not, the next one is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed: datetime | None = None
        self._read_at = 0.0

    async def bound(self) -> datetime:
        closed = self._closed
        if closed is None or monotonic() - self._read_at > REMEMBERED_S_MAX:
            closed = await self._database.fetch_value(queries.closed_hour)
            self._remember(closed)
        return closed

    def held(self, bound: datetime, closed: datetime) -> bool:
        self._remember(closed)
        return bound <= closed

    def _remember(self, closed: datetime) -> None:
        self._closed, self._read_at = closed, monotonic()
