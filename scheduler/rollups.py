"""Rollups: kept exact beside writers that never wait for them.

Two instants in `rollup_state`, closing >= closed. Writers mark the hours before `closing` that they write to,
in the same transaction. Readers trust the rollups of hours before `closed` that carry no mark.

1. closing    moves to the last whole hour, and commits
2. number     a transaction number of our own, taken after that
3. wait       until every transaction with a lower number has ended. What it wrote is visible from now on;
              whoever has a higher number reads the moved `closing` and marks
4. roll       hour by hour, some devices at a time, from their events
5. closed     moves behind each hour that all devices have
6. marks      the marked hours are rolled up anew, each with its marks in one statement

A crash between any two steps leaves answers right: what is not closed or is marked is read from events.
docs/decisions/0024-exact-rollups.md says what was tried and which simpler protocols were wrong.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic

import structlog

from schema.database import Connection, fetch_row
from schema.locks import LOCKS
from schema.queries import load_queries

HOUR, CLOSE_AT_ONCE_MAX = timedelta(hours=1), timedelta(days=1)
POLL_S = 0.02
WAIT_S_MAX, MARKS_S_MAX = 60.0, 20.0  # Of one run.
# How many devices a statement takes, and how many hours a step, so that they last about so long.
DEVICES_AT_FIRST, DEVICES_MAX, STATEMENT_S = 1, 5000, 0.5
STEP_S = 2.0
# The least that can be done at once is an hour of a device; the server's own limit stands in rollups.sql.
STATEMENT_S_MAX = 310.0

queries = load_queries("scheduler", "rollups.sql", LOCKS)
log = structlog.get_logger()


async def roll(connection: Connection, closing: datetime | None = None) -> None:
    """Close what can be closed, up to the hour `closing` or the last one, and roll up what is marked.

    Does nothing while another roller is at work.
    """
    if not await connection.fetchval(queries.lock_rollups):
        return
    try:
        await connection.execute(queries.take_time_and_memory)
        pace = AdaptiveBatch(DEVICES_AT_FIRST, DEVICES_MAX, STATEMENT_S)
        state = await fetch_row(connection, queries.move_closing, closing)
        if state["closed"] < state["closing"] and await _writers_end(connection):
            await _close(connection, pace, state["closed"], state["closing"])
        await _roll_marked(connection, pace, state["closing"])
    finally:
        await connection.fetchval(queries.unlock_rollups)


async def until_writers_ended(connection: Connection) -> None:
    """Wait for every transaction that may not have seen what is committed now."""
    number = await connection.fetchval(queries.take_number)
    while not await connection.fetchval(queries.writers_ended, number):  # noqa: ASYNC110  # No event tells.
        await asyncio.sleep(POLL_S)


async def _writers_end(connection: Connection) -> bool:
    """Whether they do within a while. If not, hours close at a later run; marks need not wait for that."""
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            await until_writers_ended(connection)
    except TimeoutError:
        log.warning("No hour can be closed: a transaction has been open for long, end it.")
        return False
    return True


class AdaptiveBatch:
    """How much is done at once: twice as much after quick work, half after slow."""

    def __init__(self, size: int, most: int, wanted_s: float) -> None:
        self.size, self._most, self._wanted_s = size, most, wanted_s
        self._began = monotonic()

    def begin(self) -> None:
        self._began = monotonic()

    def end(self) -> None:
        took_s = monotonic() - self._began
        if took_s > self._wanted_s:
            self.size = max(1, self.size // 2)
        elif took_s < self._wanted_s / 4:
            self.size = min(self._most, self.size * 2)


async def roll_hours(
    connection: Connection, devices: Sequence[int], starts: Sequence[datetime], span: timedelta
) -> None:
    """Roll up the hours of a span from each start, of the device in the same place."""
    await connection.execute(
        queries.roll_hours, devices, starts, span, min(starts), max(starts) + span,
        timeout=STATEMENT_S_MAX,
    )  # fmt: skip


async def _close(
    connection: Connection, pace: AdaptiveBatch, closed: datetime, closing: datetime
) -> None:
    """Hour by hour; up to a day at once where much is to be caught up on and there is little in it."""
    hours = AdaptiveBatch(1, CLOSE_AT_ONCE_MAX // HOUR, STEP_S)
    while closed < closing:
        hours.begin()
        span = min(closing - closed, hours.size * HOUR)
        after = 0
        while rows := await connection.fetch(queries.devices_after, after, pace.size):
            pace.begin()
            devices = [row["device_no"] for row in rows]
            await roll_hours(connection, devices, [closed] * len(devices), span)
            after = devices[-1]
            pace.end()
        closed += span
        await connection.execute(queries.move_closed, closed)
        hours.end()


async def _roll_marked(connection: Connection, pace: AdaptiveBatch, closing: datetime) -> None:
    """Until there are fewer than one statement takes, or for a while: the next run closes hours first."""
    full, deadline = True, monotonic() + MARKS_S_MAX
    while full and monotonic() < deadline:
        pace.begin()
        wanted = pace.size
        rows = await connection.fetch(queries.marked_hours, closing, wanted)
        if rows:
            devices, hours = zip(*rows, strict=True)
            await roll_hours(connection, devices, hours, HOUR)
        full = len(rows) == wanted
        pace.end()
