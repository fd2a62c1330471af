"""The newest event of each device, followed for the streams that watch it.

One reader per process asks the database once a second, while at least one stream watches, for the devices
that any stream watches. So the ingest path pays nothing, and ten streams cost what one does: they share what
was read, already as JSON. A stream holds only the number of the newest change that it has sent.

An event with a time long past is newest only of a device that was silent since then, so most looks are at the
last days alone, which spares the plan all older partitions; one look in WIDE_LOOKS is at everything.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from api.store.database import Database
from runtime.errors import InvalidRequest, Overloaded
from schema.database import DATABASE_ERRORS
from schema.instants import EARLIEST
from schema.queries import load_queries

LOOK_EVERY_S = 1.0
RECENT = timedelta(days=2)
WIDE_LOOKS = 10
FLEET_DEVICES_MAX = 1000  # A larger fleet is not watched as a whole.

queries = load_queries("api.latest", "live.sql")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Newest:
    device_no: int
    ts: datetime
    event_id: str
    body: str
    change: int  # Numbers grow from look to look.


class Watch:
    """What one stream watches: these devices, or the fleet if they are None."""

    def __init__(self, device_ids: frozenset[str] | None) -> None:
        self.device_ids = device_ids
        self.sent = 0  # The newest change that it has sent.

    def concerns(self, device_id: str) -> bool:
        return self.device_ids is None or device_id in self.device_ids


class LatestReader:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: dict[str, _Newest] = {}
        self._change = 0
        self._watches: set[Watch] = set()
        self._watched = asyncio.Event()
        self._looking = asyncio.Lock()  # Two looks at a time could go back in event time.

    async def run(self) -> None:
        """Look until cancelled, once a second while a stream watches."""
        look = 0
        while True:
            await self._watched.wait()
            look += 1
            since = EARLIEST if look % WIDE_LOOKS == 0 else datetime.now(UTC) - RECENT
            try:
                await self._look(self._device_ids(), since)
            except (Overloaded, *DATABASE_ERRORS) as error:
                log.warning("The newest events cannot be read; retrying.", error=repr(error))
            await asyncio.sleep(LOOK_EVERY_S)

    @contextmanager
    def watching(self, device_ids: frozenset[str] | None) -> Iterator[Watch]:
        """A stream watches until the block ends; nothing is kept for nobody."""
        watch = Watch(device_ids)
        self._watches.add(watch)
        self._watched.set()
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            if not self._watches:
                self._watched.clear()
            self._newest = {
                device_id: newest
                for device_id, newest in self._newest.items()
                if any(each.concerns(device_id) for each in self._watches)
            }

    async def begin(self, watch: Watch) -> None:
        """Read what a new stream begins with. Raises InvalidRequest for the whole of a large fleet."""
        if watch.device_ids is None:
            most = FLEET_DEVICES_MAX + 1
            if await self._database.fetch_value(queries.count_devices, most) == most:
                raise InvalidRequest(
                    f"topics: latest of more than {FLEET_DEVICES_MAX:,} devices needs device_id; repeat it"
                    " for each device to watch, or leave latest out."
                )
        await self._look(watch.device_ids, EARLIEST)

    def changes(self, watch: Watch) -> list[str]:
        """The events that are new to a stream, as JSON texts; they count as sent."""
        if watch.sent == self._change:
            return []
        found = [
            newest.body
            for device_id, newest in self._newest.items()
            if newest.change > watch.sent and watch.concerns(device_id)
        ]
        watch.sent = self._change
        return found

    def _device_ids(self) -> frozenset[str] | None:
        """The devices that any stream watches; None for the fleet."""
        watched = [watch.device_ids for watch in self._watches]
        named = [device_ids for device_ids in watched if device_ids is not None]
        return frozenset().union(*named) if len(named) == len(watched) else None

    async def _look(self, device_ids: frozenset[str] | None, since: datetime) -> None:
        async with self._looking:
            known = list(self._newest.values())
            rows = await self._database.fetch(
                queries.newer_events,
                None if device_ids is None else list(device_ids),
                [newest.device_no for newest in known],
                [newest.ts for newest in known],
                [newest.event_id for newest in known],
                since,
            )
            if rows and self._watches:
                self._change += 1
                for row in rows:
                    self._newest[row["device_id"]] = _Newest(
                        row["device_no"], row["ts"], row["event_id"], row["body"], self._change
                    )
