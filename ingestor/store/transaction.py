"""One batch, one transaction. Everything that counts or tells follows from rows really inserted.

1. lanes      advisory locks: a device's batches commit in the order they are written
2. keys       insert … on conflict do nothing returning: what comes back is new; plain signs of life
3. facts      alert states, what was already evaluated; the versions of rules and registry came with 2,
              and which hours are closed, and from when on raw events are kept
4. events     COPY of the survivors; marks for the closed hours among theirs; dead letters
5. presence   other signs of life; a device that returns resolves its silence
6. alerts     transitions, incidents, outbox
7. end        COMMIT; with something to tell: feed lock, number, NOTIFY and COMMIT as one message
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from ingestor.alerts.incidents import IncidentChanges, decide
from ingestor.alerts.rules import Candidate, RuleState, candidates
from ingestor.batch import Batch, Row
from ingestor.decode.presence import LIVE
from ingestor.store.copy_format import COLUMNS, EventCopy
from ingestor.store.pg_errors import copy_line, is_poison, lacks_partition, without_data
from ingestor.store.registry import Registry
from runtime.errors import BatchRefused, NoPartition, StoreUnavailable
from schema.alert import AlertState, Notification
from schema.database import WRITER_LIMITS, Connection, connect, fetch_row
from schema.event import DeviceNo
from schema.feed import commit_statement
from schema.instants import epoch_us
from schema.locks import LOCKS
from schema.presence import TIMES, presence_changed, silence_alert
from schema.queries import load_queries

queries = load_queries("ingestor.store", constants=LOCKS | TIMES)

REJECTED_COLUMNS = ("received_at", "door", "device_id", "reason", "detail", "item", "payload")

HOUR_S = 3600
HOUR_US = HOUR_S * 1_000_000
BETWEEN = "\x1f"  # Of the ids in a list: a control character, which none of them holds.

NewKeys = set[tuple[int, str]]


class StaleRegistryError(Exception):
    """Devices or profiles changed since the batch was checked: check it again."""


class BelowFloorError(Exception):
    """The batch holds events from before `floor`, of which nothing is kept any more."""

    def __init__(self, floor: datetime) -> None:
        super().__init__(floor)
        self.floor = floor


class Store:
    """The writing side of one connection. Not shared: one writer, one store."""

    def __init__(self, dsn: str, registry: Registry, *, name: str, offline_after_s: int) -> None:
        self._dsn, self._name = dsn, name
        self._registry = registry
        self._offline_after_s = offline_after_s
        self._connection: Connection | None = None
        self._copy = EventCopy()
        self._copied: Sequence[Row] = ()  # in the order of the COPY, whose lines errors name

    async def write(self, batch: Batch) -> NewKeys:
        """Store the batch and return the keys that are new.

        Raises BatchRefused if PostgreSQL refuses the data, StoreUnavailable for everything else,
        StaleRegistryError or BelowFloorError if the batch must be checked again. After any of them
        nothing was stored, but for a commit whose answer was lost: the next attempt finds out.
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

    async def _transaction(self, connection: Connection, batch: Batch) -> NewKeys:
        await connection.execute(_begin(batch.lanes))
        if batch.in_doubt is not None and await self._was_committed(connection, batch):
            await connection.execute("rollback")
            return batch.in_doubt
        batch.in_doubt = None
        first = batch.first_rows()
        new, facts = await self._insert_keys(connection, list(first), _live(batch))
        if not self._registry.is_current(batch.edition, facts["registry_version"]):
            raise StaleRegistryError
        _require_kept(batch.rows, facts["floor"])
        if facts["rules_version"] != self._registry.rules_version:
            await self._registry.refresh_rules(connection, facts["rules_version"])
        survivors = [row for key, row in first.items() if key in new]
        pairs = await self._candidates(connection, survivors)
        newest = await _newest_evaluated(connection, pairs)
        await self._insert_events(connection, survivors)
        await _mark_hours(connection, survivors, facts["closing"])
        await self._insert_dead_letters(connection, batch)
        told = await self._update_presence(connection, batch, unheard=facts["unheard"])
        receipts = await self._set_receipts(connection, batch)
        told += await self._apply(connection, decide(pairs, newest))
        end = await commit_statement(connection, told)
        batch.in_doubt = new
        await connection.execute(end)
        batch.in_doubt = None
        for row in receipts:
            self._registry.set_receipts(row["device_id"], wanted=row["receipts"])
        return new

    async def _insert_keys(
        self, connection: Connection, keys: Sequence[tuple[DeviceNo, str]], live: str
    ) -> tuple[NewKeys, Any]:
        """Which of them are new, and a row of facts: versions of rules and registry, closing, floor.

        `unheard`: of a `live` device there is more to say than that it was heard.
        """
        numbers = BETWEEN.join([str(number) for number, _ in keys])
        names = BETWEEN.join([name for _, name in keys])
        row = await fetch_row(connection, queries.insert_keys, numbers, names, len(keys), live)
        if row["stored"] == len(keys):
            return set(keys), row
        return set(zip(row["device_nos"] or (), row["event_ids"] or (), strict=True)), row

    async def _candidates(
        self, connection: Connection, survivors: Sequence[Row]
    ) -> list[Candidate]:
        rules = self._registry.rules
        if not rules or not survivors:
            return []
        devices = sorted({row.device_no for row in survivors})
        rows = await connection.fetch(queries.read_alert_states, devices)
        states = {
            (row["device_no"], row["rule_id"]): RuleState(
                row["pending_since"], row["incident_id"], row["notified_at"], row["decided_at"]
            )
            for row in rows
        }
        return candidates(survivors, rules, states)

    async def _insert_events(self, connection: Connection, survivors: Sequence[Row]) -> None:
        self._copied = survivors
        if not survivors:
            return
        # asyncpg would read a file object in a thread; of bytes its type stubs know nothing.
        source: Any = memoryview(self._copy(survivors))
        await connection.copy_to_table("event", source=source, columns=COLUMNS, format="binary")

    async def _insert_dead_letters(self, connection: Connection, batch: Batch) -> None:
        new = [letter for letter in batch.dead_letters if letter.is_new]
        records = [
            (
                letter.received_at, str(message.door), letter.device_id, str(letter.reason),
                letter.detail, letter.item, letter.payload,
            )
            for letter, message, *_ in new
        ]  # fmt: skip
        if not records:
            return
        await connection.copy_records_to_table(
            "rejected", records=records, columns=REJECTED_COLUMNS
        )

    async def _update_presence(
        self, connection: Connection, batch: Batch, *, unheard: bool
    ) -> list[Notification]:
        """What is more than a refresh. Returns what subscribers hear of devices that changed state."""
        signs = sorted(pair for pair in batch.signs.items() if pair[1] is not LIVE)
        if not signs and not unheard:
            return []
        changed = await connection.fetch(
            queries.update_presence,
            _live(batch),
            [device_no for device_no, _ in signs],
            [sign.life for _, sign in signs],
            [sign.asleep for _, sign in signs],
            [sign.sleep_s for _, sign in signs],
            [sign.will for _, sign in signs],
            float(self._offline_after_s),
        )
        changed = [row for row in changed if row["was"] != row["state"]]
        if not changed:
            return []
        names = await self._names(connection, [row["device_no"] for row in changed])
        told = [
            presence_changed(
                names[row["device_no"]], row["state"], row["since"], row["reason"], row["last_seen"]
            )
            for row in changed
        ]
        returned = [row["device_no"] for row in changed if row["was"] == "offline"]
        if returned:
            for row in await connection.fetch(queries.resolve_silence, returned):
                name, at = names[row["device_no"]], row["resolved_at"]
                told.append(silence_alert(name, row["incident_id"], at, AlertState.RESOLVED))
        return told

    async def _set_receipts(self, connection: Connection, batch: Batch) -> list[Any]:
        """Returns the devices for which it changed: the cache learns of them after the commit."""
        if not batch.receipts:
            return []
        wanted = sorted(batch.receipts.items())
        changed: list[Any] = await connection.fetch(
            queries.set_receipts,
            [number for number, _ in wanted],
            [value for _, value in wanted],
            self._registry.default_profile,
        )
        return changed

    async def _names(self, connection: Connection, devices: Sequence[int]) -> dict[int, str]:
        rows = await connection.fetch(queries.device_names, devices)
        return {row["device_no"]: row["device_id"] for row in rows}

    async def _apply(self, connection: Connection, effects: IncidentChanges) -> list[Notification]:
        if not effects:
            return []
        if effects.resolved:
            await connection.execute(queries.resolve_incidents, *effects.resolved_columns())
        if effects.opened:
            numbers = await connection.fetch(queries.incident_numbers, len(effects.opened))
            effects.number([row[0] for row in numbers])
            await connection.execute(queries.open_incidents, *effects.opened_columns())
        if effects.states:
            await connection.execute(queries.save_alert_states, *effects.state_columns())
        return effects.told()

    async def _connected(self) -> Any:
        """After a failover the server may know other devices: the cache is read anew."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, self._name, WRITER_LIMITS)
            self._registry.expire()
        return self._connection

    async def _rollback(self) -> None:
        if self._connection is None:
            return
        try:
            await self._connection.execute("rollback")
        except Exception:  # noqa: BLE001  # Whatever it is: the server rolls back what it lost.
            self._drop()

    async def _was_committed(self, connection: Connection, batch: Batch) -> bool:
        """Settle a commit in doubt. The lanes of the batch are ours: the old transaction has ended.

        What holds neither a new event nor a dead letter may as well be written again.
        """
        names = {row.device_no: row.event.device_id for row in batch.rows}
        keys = sorted(batch.in_doubt or ())
        letters = [letter.rejection for letter in batch.dead_letters if letter.is_new]
        if not keys and not letters:
            return False
        one = letters[0] if letters else None
        proof = (one.received_at, str(one.reason), one.payload) if one else (None, None, None)
        return bool(
            await connection.fetchval(
                queries.are_stored,
                [names[DeviceNo(device_no)] for device_no, _ in keys],
                [event_id for _, event_id in keys],
                *proof,
            )
        )

    async def _classified(self, error: Exception, batch: Batch) -> Exception:
        """BatchRefused for data that PostgreSQL will never take, else StoreUnavailable."""
        if isinstance(error, StoreUnavailable):
            return error
        if batch.rows and is_poison(error):
            await self._rollback()
            return BatchRefused(without_data(error), self._place(batch, copy_line(error)))
        self._drop()
        kind = NoPartition if lacks_partition(error) else StoreUnavailable
        return kind(without_data(error))

    def _place(self, batch: Batch, line: int | None) -> int | None:
        """Where the row of a COPY line stands in the batch, which is in order of arrival."""
        if line is None or not 1 <= line <= len(self._copied):
            return None
        suspect = self._copied[line - 1]
        return next(place for place, row in enumerate(batch.rows) if row is suspect)

    def _drop(self) -> None:
        """After an error of unknown extent a new connection is cheaper than a wrong assumption."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _begin(lanes: Sequence[int]) -> str:
    if not lanes:
        return "begin"
    return str(queries.begin_in_lanes).format(lanes=",".join(map(str, lanes)))


def _live(batch: Batch) -> str:
    """The devices of which nothing else is to be said than that they sent telemetry, joined."""
    return BETWEEN.join(
        [str(number) for number, sign in sorted(batch.signs.items()) if sign is LIVE]
    )


def _require_kept(rows: Sequence[Row], floor: datetime) -> None:
    """Raises BelowFloorError: its key may be gone, so that a repeat would be stored once more."""
    limit = epoch_us(floor)
    if any(row.event.ts_us < limit for row in rows):
        raise BelowFloorError(floor)


async def _mark_hours(connection: Connection, survivors: Sequence[Row], closing: datetime) -> None:
    """Say that the rollups of these hours lack something. For live data that is nothing."""
    limit = epoch_us(closing)
    late = {
        (row.device_no, row.event.ts_us // HOUR_US) for row in survivors if row.event.ts_us < limit
    }
    if late:
        devices, hours = zip(*sorted(late), strict=True)
        await connection.execute(queries.mark_hours, devices, [hour * HOUR_S for hour in hours])


async def _newest_evaluated(
    connection: Connection, pairs: Sequence[Candidate]
) -> list[datetime | None]:
    """Per candidate the newest event time that its rule has evaluated for its device."""
    if not pairs:
        return []
    oldest = min(event.ts for pair in pairs for event in pair.events)
    rows = await connection.fetch(
        queries.newest_evaluated,
        [pair.device_no for pair in pairs],
        [pair.rule.metric for pair in pairs],
        [pair.rule.tag for pair in pairs],
        [pair.rule.in_force_from for pair in pairs],
        list(range(len(pairs))),
        oldest,
    )
    return [
        max(filter(None, (row["newest"], pair.state.decided_at)), default=None)
        for row, pair in zip(rows, pairs, strict=True)
    ]
