"""Rollups: kept exact without making any writer wait.

`rollup_state` holds two instants, closing >= closed. A writer marks the hours before `closing` that it writes
to, in the same transaction. Readers trust the rollups of hours before `closed` that carry no mark.

1. closing    move it to the last whole hour, and commit
2. number     take a transaction number after that
3. wait       until every transaction with a lower number has ended: what it wrote is visible then. A
              transaction with a higher number reads the moved `closing` and marks
4. roll       roll up hour by hour, a number of devices at a time, from their events
5. closed     move it past each hour that is rolled up for all devices
6. marks      roll up the marked hours again; one statement does this and deletes their marks

A crash between any two steps leaves answers right: hours that are marked or not closed are read from events.
docs/decisions/0024-exact-rollups.md records what was tried and which simpler protocols were wrong.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic

import structlog

from schema.database import Connection, fetch_row
from schema.event import SEQ_STEP_MAX
from schema.locks import LOCKS
from schema.queries import load_queries

HOUR, CLOSE_AT_ONCE_MAX = timedelta(hours=1), timedelta(days=1)
POLL_S = 0.02
WAIT_S_MAX, MARKS_S_MAX = 60.0, 20.0  # Per run.
# The number of devices per statement and of hours per step adapt until each takes about this long.
DEVICES_AT_FIRST, DEVICES_MAX, STATEMENT_S = 1, 5000, 0.5
STEP_S = 2.0
# The smallest unit of work is one hour of one device; the server's own limit is in rollups.sql.
STATEMENT_S_MAX = 310.0

queries = load_queries("scheduler", "rollups.sql", LOCKS | {"seq_step_max": SEQ_STEP_MAX})
log = structlog.get_logger()


async def roll(connection: Connection, closing: datetime | None = None) -> None:
    """Close the hours that can be closed, up to `closing` or the last hour, and roll up the marked hours.

    It does nothing while another roller is at work.
    """
    if not await connection.fetchval(queries.lock_rollups):
        return
    try:
        await connection.execute(queries.set_session_limits)
        per_statement = AdaptiveSize(DEVICES_AT_FIRST, DEVICES_MAX, STATEMENT_S)
        state = await fetch_row(connection, queries.move_closing, closing)
        if state["closed"] < state["closing"] and await _writers_ended_in_time(connection):
            await _close(connection, per_statement, state["closed"], state["closing"])
        await _roll_marked(connection, per_statement, state["closing"])
    finally:
        await connection.fetchval(queries.unlock_rollups)


async def until_writers_ended(connection: Connection) -> None:
    """Wait for every transaction that may not have seen the latest commit of this connection."""
    number = await connection.fetchval(queries.take_number)
    while not await connection.fetchval(queries.writers_ended, number):  # noqa: ASYNC110  # PostgreSQL sends no event.
        await asyncio.sleep(POLL_S)


async def _writers_ended_in_time(connection: Connection) -> bool:
    """If not, hours close at a later run; rolling up marked hours does not need to wait."""
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            await until_writers_ended(connection)
    except TimeoutError:
        log.warning(
            "Rollups cannot close hours: a transaction has been open for over a minute; end it."
        )
        return False
    return True


class AdaptiveSize:
    """A size that doubles after fast work and halves after slow work."""

    def __init__(self, size: int, size_max: int, wanted_s: float) -> None:
        self.size, self._size_max, self._wanted_s = size, size_max, wanted_s
        self._began = monotonic()

    def begin(self) -> None:
        self._began = monotonic()

    def end(self) -> None:
        took_s = monotonic() - self._began
        if took_s > self._wanted_s:
            self.size = max(1, self.size // 2)
        elif took_s < self._wanted_s / 4:
            self.size = min(self._size_max, self.size * 2)


async def roll_hours(
    connection: Connection, devices: Sequence[int], starts: Sequence[datetime], span: timedelta
) -> None:
    """Roll up `span` from `starts[i]` on for `devices[i]`."""
    await connection.execute(
        queries.roll_hours, devices, starts, span, min(starts), max(starts) + span,
        timeout=STATEMENT_S_MAX,
    )  # fmt: skip


async def _close(
    connection: Connection, per_statement: AdaptiveSize, closed: datetime, closing: datetime
) -> None:
    """Close hour by hour, or up to a day at once when catching up on hours with few events."""
    hours = AdaptiveSize(1, CLOSE_AT_ONCE_MAX // HOUR, STEP_S)
    while closed < closing:
        hours.begin()
        span = min(closing - closed, hours.size * HOUR)
        after = 0
        while rows := await connection.fetch(queries.devices_after, after, per_statement.size):
            per_statement.begin()
            devices = [row["device_no"] for row in rows]
            await roll_hours(connection, devices, [closed] * len(devices), span)
            after = devices[-1]
            per_statement.end()
        closed += span
        await connection.execute(queries.move_closed, closed)
        hours.end()


async def _roll_marked(
    connection: Connection, per_statement: AdaptiveSize, closing: datetime
) -> None:
    """Roll up marked hours until none is left, or for 20 s: the next run then closes hours first."""
    full, deadline = True, monotonic() + MARKS_S_MAX
    while full and monotonic() < deadline:
        per_statement.begin()
        wanted = per_statement.size
        rows = await connection.fetch(queries.marked_hours, closing, wanted)
        if rows:
            devices, hours = zip(*rows, strict=True)
            await roll_hours(connection, devices, hours, HOUR)
        full = len(rows) == wanted
        per_statement.end()
