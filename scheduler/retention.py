"""Retention drops raw events older than RETENTION_DAYS, by whole months (UTC); their rollups stay.

0. right      refuse, before anything changes, if this login may not drop the months
1. floor      move the first instant that is kept to the beginning of a month, and commit
2. wait       until every writer that may not have seen the floor has ended: nothing older is written then
3. rollups    roll up every hour before the floor for the last time
4. detach     detach the month from the table of events, without making any query wait
5. keys       delete the keys of its events, piece by piece
6. drop       drop its table

A run may stop anywhere, and the next one continues there. No event of a partly dropped month can be stored
again: writers reject events older than the floor, because their keys may be deleted. A deleted key may be
used again by a newer event. So the old event is out of sight before its key is free, and each key is deleted
only once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

import asyncpg

from runtime.errors import Deferred, NotOwner
from runtime.metrics import Metrics
from scheduler.rollups import roll, until_writers_ended
from schema.database import Connection, fetch_row
from schema.locks import LOCKS
from schema.queries import load_queries

WAIT_S_MAX = 60.0
POLL_S = 1.0
PIECE_BLOCKS = 64  # About 2,500 events: a fraction of a second, a few seconds without a warm cache.

Log = Callable[..., Any]  # Takes a sentence and fields, like log.info.

queries = load_queries("scheduler", "retention.sql", LOCKS)


@dataclass(frozen=True, slots=True)
class Month:
    """A partition before the floor. The keys of the events in its first `blocks` blocks are deleted."""

    partition: str
    first: datetime
    until: datetime
    attached: bool
    pending: bool
    blocks: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DropPlan:
    """What a run would delete with a month."""

    month: Month
    events: int
    keys: int


async def retain(
    connection: Connection, days: int, now: datetime, metrics: Metrics, log: Log
) -> None:
    """Drop months older than `days`; 0 keeps everything except a month that is already partly dropped.

    `now` is the clock of this process: a month is dropped only if the database's clock agrees. The
    connection must not be used for anything else meanwhile. Raises Deferred if it must wait for others, and
    NotOwner, before anything has changed, if this login may not drop months.
    """
    await connection.execute(queries.set_lock_timeout)
    if not await connection.fetchval(queries.lock_retention):
        raise Deferred("Another retention run is in progress.")
    try:
        if days > 0:
            await require_right_to_drop(connection)
            months = await droppable(connection, await move_floor(connection, days, now), log)
        elif months := await partly_dropped(connection):
            await require_right_to_drop(connection)
        for month in months:
            await detach(connection, month)
            await delete_keys(connection, month)
            await drop(connection, month)
            metrics.dropped_months.inc()
            log("A month of raw events was dropped.", partition=month.partition)
    finally:
        await connection.fetchval(queries.unlock_retention)


async def require_right_to_drop(connection: Connection) -> None:
    """The floor hides what is below it, so it must not move for a login that cannot drop anything."""
    if not await connection.fetchval(queries.may_drop):
        raise NotOwner(
            "Retention does not run: this login does not own the tables, so it may not drop months. Set"
            " OWNER_DATABASE_URL to the login of their owner."
        )


async def partly_dropped(connection: Connection) -> list[Month]:
    """Months that an earlier run began to drop."""
    months = await old_months(connection, await connection.fetchval(queries.floor))
    return [month for month in months if month.pending or not month.attached]


async def droppable(connection: Connection, floor: datetime, log: Log) -> list[Month]:
    """Every month before the floor, once nothing is written there any more and all is rolled up."""
    if not await old_months(connection, floor):
        return []
    log("Raw events older than the floor will be dropped.", floor=floor.isoformat())
    await wait_for_writers(connection)
    await roll_up(connection)
    # The list is read again: a month that another run left half detached comes first.
    return await old_months(connection, floor)


async def preview(connection: Connection, days: int, now: datetime) -> list[DropPlan]:
    """Count what `retain` would drop, event by event."""
    if days == 0:
        return []
    state = await fetch_row(connection, queries.floor_for, days, now)
    return [
        await _counted(connection, month) for month in await old_months(connection, state["wanted"])
    ]


async def move_floor(connection: Connection, days: int, now: datetime) -> datetime:
    """Move the floor, which only grows, and return it."""
    wanted: datetime = (await fetch_row(connection, queries.floor_for, days, now))["wanted"]
    await connection.execute(queries.move_floor, wanted)
    return wanted


async def old_months(connection: Connection, floor: datetime) -> list[Month]:
    return [Month(*row) for row in await connection.fetch(queries.old_months, floor)]


async def wait_for_writers(connection: Connection) -> None:
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            await until_writers_ended(connection)
    except TimeoutError:
        raise Deferred("A transaction has been open for over a minute; end it.") from None


async def roll_up(connection: Connection) -> None:
    """Roll up every hour before the floor, or wait until another roller has done so."""
    deadline = monotonic() + WAIT_S_MAX
    while True:
        await roll(connection)
        if await connection.fetchval(queries.is_rolled_up):
            return
        if monotonic() > deadline:
            raise Deferred("The rollups of the months to be dropped are not complete yet.")
        await asyncio.sleep(POLL_S)


async def detach(connection: Connection, month: Month) -> None:
    """Detach concurrently: DROP TABLE would make every reader and writer wait for the slowest reader."""
    if not month.attached:
        return
    statement = queries.finish_detaching if month.pending else queries.detach
    await connection.execute(queries.begin_drop, month.partition)
    try:
        await connection.execute(statement.format(partition=month.partition))
    except (
        asyncpg.LockNotAvailableError,
        asyncpg.QueryCanceledError,
        asyncpg.DeadlockDetectedError,
    ) as error:
        raise Deferred(f"A query that does not finish is reading {month.partition}.") from error


async def delete_keys(connection: Connection, month: Month) -> None:
    statement = queries.delete_keys.format(partition=month.partition)
    blocks = await connection.fetchval(queries.count_blocks, month.partition)
    for start in range(month.blocks, blocks, PIECE_BLOCKS):
        stop = min(start + PIECE_BLOCKS, blocks)
        await connection.execute(statement, month.partition, start, stop)


async def drop(connection: Connection, month: Month) -> None:
    await connection.execute(queries.drop_month.format(partition=month.partition))


async def count_old_dead_letters(connection: Connection, days: int) -> int:
    return int(await connection.fetchval(queries.count_old_dead_letters, days))


async def delete_old_dead_letters(connection: Connection, days: int) -> int:
    """Delete dead letters older than `days` in short transactions and return how many there were."""
    dropped = 0
    while (result := await connection.execute(queries.delete_old_dead_letters, days)) != "DELETE 0":
        dropped += int(result.removeprefix("DELETE "))
    return dropped


async def _counted(connection: Connection, month: Month) -> DropPlan:
    events = keys = await connection.fetchval(
        queries.count_events.format(partition=month.partition)
    )
    if month.blocks:
        statement = queries.count_keys.format(partition=month.partition)
        keys = await connection.fetchval(statement, month.blocks)
    return DropPlan(month, events, keys)
