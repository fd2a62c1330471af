"""What an export reads: slices of events by keyset, each in a transaction of its own.

Between two slices an export holds nothing in the database, neither a connection nor a snapshot: a client
that reads for an hour holds back no vacuum, no DROP of retention and no other question. An event never
moves, so each that was committed before the export began comes exactly once.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import stamina
import structlog

from api.store.database import Database, needed_instant, require_kept
from runtime.errors import Overloaded
from schema.database import DATABASE_ERRORS, READER_LIMITS
from schema.instants import EARLIEST, LATEST
from schema.queries import load_queries

EXPORTS_MAX = 4  # At a time, in this process. Beyond it 503.
RETRY_AFTER_S = 30
CONNECTIONS_MAX = 2  # So many of them read at the same moment; the others send.
SLICE_EVENTS_MAX, SLICE_BYTES_MAX = 2000, 2_000_000
SLICE_S_MAX = 27.0  # A little more than PostgreSQL gives a slice.
PATIENCE_S_MAX = 60.0  # So long a slice is tried again, for instance while the database restarts.
EXPORT_LIMITS = READER_LIMITS | {
    "statement_timeout": "25s",
    # A slice follows an index; estimates of tags and of skipped devices are too rough to be left a choice.
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}

log = structlog.get_logger()
queries = load_queries("api.export", "exports.sql")


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class ExportSelection:
    """Which events; what is None restricts nothing. `tags` is a tsquery over whole tags."""

    device_ids: Sequence[str] | None = None
    tags: str | None = None
    metrics: Sequence[str] | None = None
    start: datetime | None = None
    end: datetime | None = None


class Window(NamedTuple):
    """A half-open range of time inside one month of UTC, hence in one partition."""

    start: datetime
    end: datetime


class Exports:
    def __init__(self, pool: Any) -> None:
        self._reader = Database(pool)
        self._open = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the few places. Raises Overloaded if all are taken."""
        if self._open >= EXPORTS_MAX:
            raise Overloaded(
                f"{EXPORTS_MAX} exports are under way: try again when one has ended.", RETRY_AFTER_S
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def begin(self, selection: ExportSelection, form: Format) -> AsyncIterator[bytes]:
        """Lines of the format, slice by slice; a slice may be empty.

        The first slice is read here, so that what is wrong is told before anything is sent. Raises
        RawEventsDropped if retention took what was asked for, here or later.
        """
        beginning = await self._reader.ask("fetchrow", queries.export_beginning)
        floor = beginning["floor"]
        needed = needed_instant(selection.start, selection.end)
        if needed is not None:
            require_kept(needed, floor)
        numbers = await self._device_numbers(selection.device_ids)
        start = max(selection.start or EARLIEST, floor)
        months = [] if numbers == [] else beginning["months"]
        found = windows(months, start, selection.end or LATEST, by_day=numbers is None)
        slices = self._slices(found, numbers, selection, form)
        first = await anext(slices, b"")

        async def all_slices() -> AsyncIterator[bytes]:
            yield first
            async for body in slices:
                yield body

        return all_slices()

    async def _device_numbers(self, device_ids: Sequence[str] | None) -> list[int] | None:
        if device_ids is None:
            return None
        rows = await self._reader.ask("fetch", queries.export_devices, list(device_ids))
        return [row["device_no"] for row in rows]

    async def _slices(
        self,
        found: Iterator[Window],
        numbers: list[int] | None,
        selection: ExportSelection,
        form: Format,
    ) -> AsyncIterator[bytes]:
        attempts: int | None = 1  # What cannot be asked at all is told at once.
        for window in found:
            key: tuple[int, datetime, str] | None = (0, window.start, "")
            while key is not None:
                row = await self._slice(
                    attempts, *window, *key, SLICE_EVENTS_MAX, SLICE_BYTES_MAX, numbers,
                    selection.tags, selection.metrics, form,
                )  # fmt: skip
                require_kept(window.start, row["floor"])
                key = (row["device_no"], row["ts"], row["event_id"]) if row["more"] else None
                attempts = None
                yield row["body"] or b""

    async def _slice(self, attempts: int | None, *arguments: Any) -> Any:
        async for attempt in stamina.retry_context(
            on=DATABASE_ERRORS, attempts=attempts, timeout=PATIENCE_S_MAX, wait_jitter=0.1
        ):
            with attempt:
                async with self._reader.connection(SLICE_S_MAX) as connection:
                    return await connection.fetchrow(queries.export_slice, *arguments)
        raise AssertionError("retry_context ends only with a result")  # pragma: no cover


def windows(
    months: Sequence[datetime], start: datetime, end: datetime, *, by_day: bool
) -> Iterator[Window]:
    """The range, cut into months or days of UTC, oldest first.

    Days for a fleet: its events lie on the disk as they came, so a day is read from there once and then
    out of memory, device by device. Of a whole month nothing would be left in memory for the next device.
    """
    for month in months:
        after = (month + timedelta(days=31)).replace(day=1)
        edge = max(month, start)
        while edge < min(after, end):
            midnight = edge.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            until = min(midnight + timedelta(days=1) if by_day else after, after, end)
            yield Window(edge, until)
            edge = until
