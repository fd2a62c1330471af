"""How complete the events of a device are, by `seq`.

A run is a stretch of events, in the order (timestamp, seq), along which `seq` grows. A gap is a step of more
than one within a run; it belongs to the time of its later end. A smaller seq begins a new run, and so does a
step of more than a million. An equal one is a repetition, which counts neither as received nor as missing.

Closed hours are read from rollups, like the statistics of metrics; marked hours and the hours that are not
closed yet from events. So late events count from their commit on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from api.aggregate.buckets import whole_hour
from api.store.database import QUERY_S_MAX, Database
from api.store.retention import first_needed, require_kept
from schema.database import Connection, fetch_row
from schema.event import SEQ_STEP_MAX, json_number
from schema.instants import EARLIEST, LATEST
from schema.queries import load_queries

queries = load_queries("api.aggregate", "completeness.sql", {"seq_step_max": SEQ_STEP_MAX})


@dataclass(frozen=True, slots=True)
class Completeness:
    received: int
    missing: int

    @property
    def expected(self) -> int:
        return self.received + self.missing

    def shown(self) -> dict[str, int | float]:
        """`percent` is rounded down to two digits, so that 100 means that nothing is missing."""
        return {
            "expected": self.expected,
            "received": self.received,
            "missing": self.missing,
            "percent": json_number(self.received * 10_000 // self.expected / 100),
        }


class CompletenessStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_range(self, device_no: int, start: datetime, end: datetime) -> Completeness | None:
        """None if no event of the range has a seq. Raises RawEventsDropped."""
        async with self._database.connection(QUERY_S_MAX) as connection:
            where = await where_to_read(connection, device_no, start, end)
            row = await fetch_row(connection, queries.completeness, *where)
        for cut in _cut_hours(start, end):
            require_kept(cut, row["floor"])
        return Completeness(row["received"], row["missing"]) if row["received"] else None

    async def gaps(
        self,
        device_no: int,
        start: datetime | None,
        end: datetime | None,
        after: tuple[datetime, int],
        limit: int,
    ) -> list[asyncpg.Record]:
        """Return gaps, the newest first, and one more than `limit` if there is another page.

        Raises RawEventsDropped.
        """
        first, last = start or EARLIEST, end or LATEST
        async with (
            self._database.heavy_query_slot(),
            self._database.connection(QUERY_S_MAX) as connection,
        ):
            where = await where_to_read(connection, device_no, first, last)
            rows = await connection.fetch(queries.gaps, *where, *after, limit + 1)
            floor = await connection.fetchval(queries.floor_of_raw_events)
        needed = first_needed(start, end)
        if needed is not None:
            require_kept(needed, floor)
        return rows


async def where_to_read(
    connection: Connection, device_no: int, start: datetime, end: datetime
) -> Sequence[Any]:
    """$1 to $6 of the queries."""
    row = await fetch_row(connection, queries.where_to_read, device_no, start, end)
    closed = row["closed"]
    raw = {*row["marked"], *(hour for hour in _cut_hours(start, end) if hour < closed)}
    return device_no, start, end, min(row["oldest"] or closed, closed), closed, sorted(raw)


def _cut_hours(start: datetime, end: datetime) -> list[datetime]:
    """The hours that are only partly in the range, so that their rollups cannot be used."""
    return [whole_hour(at) for at in (start, end) if whole_hour(at) != at]
