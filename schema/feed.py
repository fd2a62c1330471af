"""The feed: notifications for subscribers, numbered in the order of commits.

A transaction writes its notifications to the outbox under its own block number, without a lock. Its last
message takes lock 4242, numbers the block, notifies and commits, all in one round trip: so numbers grow in
commit order without gaps, and no client can stall while it holds the lock. 4242 is always the last lock of
a transaction. NOTIFY serialises commits, so only transactions with notifications send it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
import structlog

from schema.alert import Notification
from schema.database import API_SESSION, DATABASE_ERRORS, Connection, Pool, connect
from schema.locks import LOCKS
from schema.queries import load_queries

CHANNEL = "voltwire_feed"
READ_ROWS_MAX = 500
NOTIFICATION_DAYS_KEPT = 30  # The newest one of each device and rule is kept for longer.
POLL_S = 1.0  # NOTIFY only wakes the reader: a lost one costs a second.

queries = load_queries("schema", "feed.sql", LOCKS)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One notification with its number; `body` is the object that subscribers get."""

    id: int
    kind: str
    device_id: str
    rule_id: str | None
    state: str
    late: bool
    body: bytes


async def commit(connection: Connection, notifications: Sequence[Notification]) -> None:
    """Write the notifications and end the transaction; subscribers get them after the commit."""
    await connection.execute(await commit_statement(connection, notifications))


async def commit_statement(connection: Connection, notifications: Sequence[Notification]) -> str:
    """Write the notifications and return the statement that must end the transaction."""
    if not notifications:
        return "commit"
    block = await connection.fetchval(queries.next_block)
    await connection.copy_records_to_table(
        "outbox",
        columns=["block", "n", "kind", "device_id", "rule_id", "state", "late", "body", "channels"],
        records=[
            (
                block,
                n,
                row.kind,
                row.device_id,
                row.rule_id,
                str(row.state),
                row.late,
                _text(row.body),
                list(row.channels) or None,
            )
            for n, row in enumerate(notifications)
        ],
    )
    # One simple query of several statements has no parameters: only integers may be written into it.
    return str(queries.number_and_commit).format(rows=len(notifications), block=int(block))


async def read_feed(
    connection: "Connection | Pool", after: int, limit: int = READ_ROWS_MAX
) -> list[FeedItem]:
    """Return the notifications after a number, in order."""
    return [feed_item(row) for row in await connection.fetch(queries.read_feed, after, limit)]


async def newest_id(connection: "Connection | Pool") -> int:
    return int(await connection.fetchval(queries.newest_feed_id))


async def follow_feed(
    dsn: str, name: str, after: int | None = None
) -> AsyncIterator[tuple[int, list[FeedItem]]]:
    """Follow the feed after a number (None: from now on), without end, across lost connections.

    Yields (number reached, items). The first yield may be empty: from then on nothing is missed.
    """
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(dsn, name, API_SESSION, command_timeout_s=10)
            woken = asyncio.Event()
            await connection.add_listener(CHANNEL, lambda *_, woken=woken: woken.set())
            if after is None:
                after = await newest_id(connection)
                yield after, []
            while True:
                while items := await read_feed(connection, after):
                    after = items[-1].id
                    yield after, items
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await woken.wait()
                woken.clear()
        except DATABASE_ERRORS as error:
            log.warning("The feed cannot be read; retrying.", reader=name, error=repr(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(POLL_S)


def feed_item(row: asyncpg.Record) -> FeedItem:
    # The members keep their bytes, and so the form of their numbers.
    body: dict[str, Any] = msgspec.json.decode(row["body"], type=dict[str, msgspec.Raw])
    body["id"] = row["id"]
    return FeedItem(
        row["id"], row["kind"], row["device_id"], row["rule_id"], row["state"], row["late"],
        msgspec.json.encode(body),
    )  # fmt: skip


def _text(body: Mapping[str, Any]) -> str:
    return msgspec.json.encode(body).decode()
