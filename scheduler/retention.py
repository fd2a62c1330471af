"""Raw events older than RETENTION_DAYS go, by whole months (UTC); their rollups stay.

1. floor      the first instant that is kept moves to the beginning of a month, and commits
2. wait       until every writer has ended that may not have seen it: nothing older is written any more
3. rollups    every hour before the floor is rolled up, for good
4. detach     the month leaves the table of events: nobody reads it any more, and nobody had to wait
5. keys       of its events are deleted, piece by piece
6. drop       its table

It may stop anywhere, and the next run goes on there. While a month is half gone nothing of it comes back:
whoever writes refuses what is older than the floor, since its key may be gone. A key that is free may come
again with a newer event. So the old event is out of sight before its key is free, and each key is deleted
once only.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

import asyncpg

from runtime.errors import Deferred
from runtime.metrics import Metrics
from scheduler.rollups import roll, until_writers_ended
from schema.database import Connection, fetch_row
from schema.locks import LOCKS
from schema.queries import load_queries

WAIT_S_MAX = 60.0
POLL_S = 1.0
PIECE_BLOCKS = 64  # About 2,500 events: a fraction of a second, a few where nothing is in memory.

Log = Callable[..., Any]  # Takes a sentence and fields, as a log does.

queries = load_queries("scheduler", "retention.sql", LOCKS)


@dataclass(frozen=True, slots=True)
class Month:
    """A partition that lies before the floor. Of its first `blocks` the keys are deleted."""

    partition: str
    first: datetime
    until: datetime
    attached: bool
    pending: bool
    blocks: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DropPlan:
    """What a run would take away with a month."""

    month: Month
    events: int
    keys: int


async def retain(
    connection: Connection, days: int, now: datetime, metrics: Metrics, tell: Log
) -> None:
    """Drop what is older than so many days; 0 keeps everything, but for a month that is half gone.

    `now` is our clock: a month goes when ours and the database's say so. Works on a connection of its
    own. Raises Deferred if something is in the way.
    """
    await connection.execute(queries.be_patient)
    if not await connection.fetchval(queries.lock_retention):
        raise Deferred("Another run of retention is at work: it does the same.")
    try:
        if days == 0:
            months = await half_gone(connection)
        else:
            months = await ready_to_go(connection, await move_floor(connection, days, now), tell)
        for month in months:
            await detach(connection, month)
            await forget_keys(connection, month)
            await drop(connection, month)
            metrics.dropped_months.inc()
            tell("A month of raw events is gone.", partition=month.partition)
    finally:
        await connection.fetchval(queries.unlock_retention)


async def half_gone(connection: Connection) -> list[Month]:
    """What an earlier run has begun to take away."""
    months = await old_months(connection, await connection.fetchval(queries.floor))
    return [month for month in months if month.pending or not month.attached]


async def ready_to_go(connection: Connection, floor: datetime, tell: Log) -> list[Month]:
    """Every month before the floor, when nothing is written there any more and all is rolled up."""
    if not await old_months(connection, floor):
        return []
    tell("Raw events from before this time are dropped.", floor=floor.isoformat())
    await wait_for_writers(connection)
    await roll_up(connection)
    # The list is read again: what another run left half detached comes first.
    return await old_months(connection, floor)


async def preview(connection: Connection, days: int, now: datetime) -> list[DropPlan]:
    """What `retain` would drop, counted event by event."""
    if days == 0:
        return []
    state = await fetch_row(connection, queries.floor_for, days, now)
    return [
        await _counted(connection, month) for month in await old_months(connection, state["wanted"])
    ]


async def move_floor(connection: Connection, days: int, now: datetime) -> datetime:
    """The floor, which only grows."""
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
        raise Deferred("A transaction of somebody is open for a minute: end it.") from None


async def roll_up(connection: Connection) -> None:
    """Until no hour before the floor lacks anything; another roller may be at it."""
    deadline = monotonic() + WAIT_S_MAX
    while True:
        await roll(connection)
        if await connection.fetchval(queries.is_rolled_up):
            return
        if monotonic() > deadline:
            raise Deferred("The rollups of what is to go are not complete yet.")
        await asyncio.sleep(POLL_S)


async def detach(connection: Connection, month: Month) -> None:
    """Concurrently: a plain DROP would hold up every reader and writer behind the slowest reader."""
    if not month.attached:
        return
    statement = queries.finish_detaching if month.pending else queries.detach
    await connection.execute(queries.begin_leaving, month.partition)
    try:
        await connection.execute(statement.format(partition=month.partition))
    except (
        asyncpg.LockNotAvailableError,
        asyncpg.QueryCanceledError,
        asyncpg.DeadlockDetectedError,
    ) as error:
        raise Deferred(f"{month.partition} is read by somebody who does not finish.") from error


async def forget_keys(connection: Connection, month: Month) -> None:
    statement = queries.forget_keys.format(partition=month.partition)
    blocks = await connection.fetchval(queries.count_blocks, month.partition)
    for start in range(month.blocks, blocks, PIECE_BLOCKS):
        stop = min(start + PIECE_BLOCKS, blocks)
        await connection.execute(statement, month.partition, start, stop)


async def drop(connection: Connection, month: Month) -> None:
    await connection.execute(queries.drop_month.format(partition=month.partition))


async def count_rejected(connection: Connection, days: int) -> int:
    return int(await connection.fetchval(queries.count_rejected, days))


async def drop_rejected(connection: Connection, days: int) -> int:
    """Drop dead letters older than that and return how many; in pieces, so that no transaction gets long."""
    dropped = 0
    while (result := await connection.execute(queries.drop_rejected, days)) != "DELETE 0":
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
