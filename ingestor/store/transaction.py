"""One batch, one transaction. Counts and notifications follow only from rows that were really inserted.

1. lanes      advisory locks: the batches of a device commit in the order in which they are written
2. keys       insert … on conflict do nothing returning: the returned keys are new; last_seen of devices
              that sent telemetry only; the versions of rules and registry, the closed hours, the floor,
              and which devices want receipts
3. facts      alert states, and the newest event already evaluated (alert_writes.py)
4. events     COPY of the new rows; marks for their closed hours; dead letters; which duplicates reuse an id
5. presence   the other presence updates; a device that returns resolves its silence
6. alerts     transitions, incidents, outbox
7. end        COMMIT; with notifications: feed lock, number, NOTIFY and COMMIT as one message
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from ingestor.batch import Batch, Row, Written
from ingestor.store.alert_writes import read_alert_facts, write_alerts
from ingestor.store.copy_format import COLUMNS, EventCopy
from ingestor.store.dead_letters import insert_dead_letters
from ingestor.store.pg_errors import copy_line, is_poison, lacks_partition, without_data
from ingestor.store.presence_writes import (
    SEPARATOR,
    devices_with_more,
    set_receipts,
    telemetry_only_devices,
    update_presence,
)
from ingestor.store.registry import Registry, StaleRegistryError
from ingestor.store.reused_ids import record_reused_ids
from runtime.errors import BatchRefused, NoPartition, StoreUnavailable
from schema.database import WRITER_SESSION, Connection, connect, fetch_row
from schema.event import DeviceNo
from schema.feed import commit_statement
from schema.instants import epoch_us
from schema.locks import LOCKS
from schema.presence import TIMES
from schema.queries import load_queries

queries = load_queries("ingestor.store", constants=LOCKS | TIMES)

# Each statement finds its rows by their keys. Without statistics, as in a new database, the planner would
# rather read all of `presence` for each batch.
BY_KEY_SESSION = WRITER_SESSION | {"enable_seqscan": "off"}

HOUR_S = 3600
HOUR_US = HOUR_S * 1_000_000
NewKeys = set[tuple[int, str]]


class BelowFloorError(Exception):
    """The batch holds events from before `floor`; raw events of that time are no longer kept."""

    def __init__(self, floor: datetime) -> None:
        super().__init__(floor)
        self.floor = floor


class Store:
    """The writing side of one connection. Each writer has its own store."""

    def __init__(self, dsn: str, registry: Registry, *, name: str, offline_after_s: int) -> None:
        self._dsn, self._name = dsn, name
        self._registry = registry
        self._offline_after_s = offline_after_s
        self._connection: Connection | None = None
        self._copy = EventCopy()
        self._copied: Sequence[Row] = ()  # the lines of the last COPY, which errors name

    async def write(self, batch: Batch) -> Written:
        """Store the batch and return which keys are new.

        Raises BatchRefused if PostgreSQL refuses the data, StaleRegistryError or BelowFloorError if the
        batch must be checked again, StoreUnavailable for everything else. After any of them nothing is
        stored, except if the answer to a commit was lost; then the next attempt finds the outcome.
        """
        try:
            return await self._transaction(await self._connected(), batch)
        except (StaleRegistryError, BelowFloorError):
            await self._rollback()
            raise
        except Exception as error:
            raise await self._classified(error, batch) from error

    async def close(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                await self._connection.close(timeout=2)
            self._connection = None

    async def _transaction(self, connection: Connection, batch: Batch) -> Written:
        await connection.execute(_begin(batch.lanes))
        if batch.in_doubt is not None and await self._was_committed(connection, batch):
            await connection.execute("rollback")
            return batch.in_doubt
        batch.in_doubt = None
        first = batch.first_rows()
        new, facts = await self._insert_keys(connection, first, batch)
        if not self._registry.is_current(batch.registry_version, facts["registry_version"]):
            raise StaleRegistryError
        _require_kept(batch.rows, facts["floor"])
        if facts["rules_version"] != self._registry.rules_version:
            await self._registry.refresh_rules(connection, facts["rules_version"])
        new_rows = [row for key, row in first.items() if key in new]
        alerts = await read_alert_facts(connection, self._registry, new_rows, facts["now"])
        await self._insert_events(connection, new_rows)
        await _mark_hours(connection, new_rows, facts["closing"])
        await insert_dead_letters(connection, batch)
        written = Written(new, await record_reused_ids(connection, batch, new))
        notifications = await update_presence(
            connection, batch, self._offline_after_s, needs_full_update=facts["needs_full_update"]
        )
        await set_receipts(connection, batch)
        notifications += await write_alerts(connection, alerts)
        end = await commit_statement(connection, notifications)
        batch.in_doubt = written
        await connection.execute(end)
        batch.in_doubt = None
        self._registry.learn_receipts(batch.device_ids, facts["receipts"] or (), batch.receipts)
        return written

    async def _insert_keys(
        self, connection: Connection, first: Mapping[tuple[DeviceNo, str], Row], batch: Batch
    ) -> tuple[NewKeys, Any]:
        """Which keys are new, and a row of facts: versions of rules and registry, closing, floor, receipts.

        `needs_full_update`: for some devices of telemetry alone a newer last_seen is not enough.
        """
        numbers = SEPARATOR.join([str(number) for number, _ in first])
        event_ids = SEPARATOR.join([event_id for _, event_id in first])
        row = await fetch_row(
            connection,
            queries.insert_keys,
            numbers,
            event_ids,
            len(first),
            telemetry_only_devices(batch),
            devices_with_more(batch),
            _own_times(first.values()),
        )
        if row["stored"] == len(first):
            return set(first), row
        return set(zip(row["device_nos"] or (), row["event_ids"] or (), strict=True)), row

    async def _insert_events(self, connection: Connection, new_rows: Sequence[Row]) -> None:
        self._copied = new_rows
        if not new_rows:
            return
        # asyncpg would read a file object in a thread; its type stubs do not know bytes-like sources.
        source: Any = memoryview(self._copy(new_rows))
        await connection.copy_to_table("event", source=source, columns=COLUMNS, format="binary")

    async def _connected(self) -> Connection:
        """After a failover the server may have other device numbers, so the cache expires."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, self._name, BY_KEY_SESSION)
            self._registry.expire()
        return self._connection

    async def _rollback(self) -> None:
        if self._connection is None:
            return
        try:
            await self._connection.execute("rollback")
        except Exception:  # noqa: BLE001  # Whatever fails: without its connection the server rolls back.
            self._drop()

    async def _was_committed(self, connection: Connection, batch: Batch) -> bool:
        """Whether a commit in doubt took place. We hold its lanes, so the old transaction has ended.

        A batch without new events and dead letters may simply be written again.
        """
        device_ids = {row.device_no: row.event.device_id for row in batch.rows}
        keys = sorted(batch.in_doubt.new) if batch.in_doubt else []
        rejections = [item.rejection for item in batch.dead_letters if item.is_new]
        if not keys and not rejections:
            return False
        one = rejections[0] if rejections else None
        proof = (one.received_at, str(one.reason), one.payload) if one else (None, None, None)
        return bool(
            await connection.fetchval(
                queries.are_stored,
                [device_ids[DeviceNo(device_no)] for device_no, _ in keys],
                [event_id for _, event_id in keys],
                *proof,
            )
        )

    async def _classified(self, error: Exception, batch: Batch) -> Exception:
        """BatchRefused for data that PostgreSQL never accepts, else StoreUnavailable."""
        if isinstance(error, StoreUnavailable):
            return error
        if batch.rows and is_poison(error):
            await self._rollback()
            return BatchRefused(without_data(error), self._place(batch, copy_line(error)))
        self._drop()
        kind = NoPartition if lacks_partition(error) else StoreUnavailable
        return kind(without_data(error))

    def _place(self, batch: Batch, line: int | None) -> int | None:
        """The place in the batch, which is in order of arrival, of the row of a COPY line."""
        if line is None or not 1 <= line <= len(self._copied):
            return None
        suspect = self._copied[line - 1]
        return next(place for place, row in enumerate(batch.rows) if row is suspect)

    def _drop(self) -> None:
        """Give up the connection: cheaper than a wrong assumption about what an error has left."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _begin(lanes: Sequence[int]) -> str:
    if not lanes:
        return "begin"
    return str(queries.begin_in_lanes).format(lanes=",".join(map(str, lanes)))


def _own_times(rows: Collection[Row]) -> str:
    """A letter per row, t or f: whether its event has its own time. Empty if all have, as nearly always."""
    own_times = [row.event.own_time for row in rows]
    return "" if all(own_times) else "".join(["t" if own else "f" for own in own_times])


def _require_kept(rows: Sequence[Row], floor: datetime) -> None:
    """Raises BelowFloorError: keys from below the floor may be deleted, so a repeat would be stored."""
    limit = epoch_us(floor)
    if any(row.event.ts_us < limit for row in rows):
        raise BelowFloorError(floor)


async def _mark_hours(connection: Connection, new_rows: Sequence[Row], closing: datetime) -> None:
    """Mark the hours whose rollups lack these rows. For live data there are none."""
    limit = epoch_us(closing)
    late = {
        (row.device_no, row.event.ts_us // HOUR_US) for row in new_rows if row.event.ts_us < limit
    }
    if late:
        devices, hours = zip(*sorted(late), strict=True)
        await connection.execute(queries.mark_hours, devices, [hour * HOUR_S for hour in hours])
