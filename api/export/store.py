"""Exports read slices of events by keyset, each in a separate transaction.

Between two slices an export holds nothing in the database, neither a connection nor a snapshot: a client
that reads for an hour delays no vacuum, no DROP by retention and no other query. An event never moves, so
each event that was committed before the export began appears exactly once.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import stamina
import structlog

from api.store.database import Database
from api.store.retention import first_needed, require_kept
from runtime.errors import Overloaded
from schema.database import API_SESSION, DATABASE_ERRORS, Pool
from schema.instants import EARLIEST, LATEST
from schema.queries import load_queries

EXPORTS_MAX = 4  # At the same time, in this process; further ones answer 503.
RETRY_AFTER_S = 30
CONNECTIONS_MAX = 2  # Exports that read at the same moment; the others send.
SLICE_EVENTS_MAX, SLICE_BYTES_MAX = 2000, 2_000_000
SLICE_S_MAX = 27.0  # Slightly more than the statement timeout.
RETRY_S_MAX = 60.0  # A failed slice is retried for that long, for instance during a restart.
EXPORT_SESSION = API_SESSION | {
    "statement_timeout": "25s",
    # A slice must use an index; the planner's estimates for tags and skipped devices are too rough to choose.
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}

log = structlog.get_logger()
queries = load_queries("api.export", "exports.sql")


class FileFormat(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class ExportSelection:
    """Which events; None restricts nothing. `tags` is a tsquery over whole tags."""

    device_ids: Sequence[str] | None = None
    tags: str | None = None
    metrics: Sequence[str] | None = None
    start: datetime | None = None
    end: datetime | None = None


class Window(NamedTuple):
    """A half-open range of time inside one month of UTC, hence inside one partition."""

    start: datetime
    end: datetime


class ExportStore:
    def __init__(self, pool: Pool) -> None:
        self._database = Database(pool)
        self._running = 0

    @contextmanager
    def export_slot(self) -> Iterator[None]:
        """One of EXPORTS_MAX slots. Raises Overloaded if all are in use."""
        if self._running >= EXPORTS_MAX:
            raise Overloaded(
                f"{EXPORTS_MAX} exports are running, which is the limit; retry later.",
                RETRY_AFTER_S,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def begin(
        self, selection: ExportSelection, file_format: FileFormat
    ) -> AsyncIterator[bytes]:
        """Lines of the format, slice by slice; a slice may be empty.

        The first slice is read at once, so that most errors are reported before anything is sent. Raises
        RawEventsDropped, at once or later, if retention has dropped events of the selection.
        """
        (state,) = await self._database.fetch(queries.floor_and_months)
        floor = state["floor"]
        needed = first_needed(selection.start, selection.end)
        if needed is not None:
            require_kept(needed, floor)
        numbers = await self._device_numbers(selection.device_ids)
        start = max(selection.start or EARLIEST, floor)
        months = [] if numbers == [] else state["months"]
        found = partition_windows(months, start, selection.end or LATEST, by_day=numbers is None)
        slices = self._slices(found, numbers, selection, file_format)
        first = await anext(slices, b"")

        async def all_slices() -> AsyncIterator[bytes]:
            yield first
            async for body in slices:
                yield body

        return all_slices()

    async def _device_numbers(self, device_ids: Sequence[str] | None) -> list[int] | None:
        if device_ids is None:
            return None
        rows = await self._database.fetch(queries.export_devices, list(device_ids))
        return [row["device_no"] for row in rows]

    async def _slices(
        self,
        found: Iterator[Window],
        numbers: list[int] | None,
        selection: ExportSelection,
        file_format: FileFormat,
    ) -> AsyncIterator[bytes]:
        attempts: int | None = (
            1  # The first slice is not retried, so its error is reported at once.
        )
        for window in found:
            key: tuple[int, datetime, str] | None = (0, window.start, "")
            while key is not None:
                row = await self._slice(
                    attempts, *window, *key, SLICE_EVENTS_MAX, SLICE_BYTES_MAX, numbers,
                    selection.tags, selection.metrics, file_format,
                )  # fmt: skip
                require_kept(window.start, row["floor"])
                key = (row["device_no"], row["ts"], row["event_id"]) if row["more"] else None
                attempts = None
                yield row["body"] or b""

    async def _slice(self, attempts: int | None, *arguments: Any) -> Any:
        async for attempt in stamina.retry_context(
            on=DATABASE_ERRORS, attempts=attempts, timeout=RETRY_S_MAX, wait_jitter=0.1
        ):
            with attempt:
                async with self._database.connection(SLICE_S_MAX) as connection:
                    return await connection.fetchrow(queries.export_slice, *arguments)
        raise AssertionError("retry_context ends only with a result")  # pragma: no cover


def partition_windows(
    months: Sequence[datetime], start: datetime, end: datetime, *, by_day: bool
) -> Iterator[Window]:
    """The range, split into months or days of UTC, oldest first.

    The fleet is read by day. Events lie on disk in order of arrival, so the first device of a day brings the
    day into memory for all others; a whole month would not stay in memory until the next device.
    """
    for month in months:
        after = (month + timedelta(days=31)).replace(day=1)
        lower = max(month, start)
        while lower < min(after, end):
            midnight = lower.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            upper = min(midnight + timedelta(days=1) if by_day else after, after, end)
            yield Window(lower, upper)
            lower = upper
