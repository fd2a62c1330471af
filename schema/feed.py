"""The feed: what subscribers are told, numbered in the order of commits.

A transaction fills the outbox under a block number of its own, without a lock. Its last message takes
lock 4242, numbers the block, notifies and commits, all in one round trip: so numbers grow in commit
order without gaps and no client can stall while it holds the lock. 4242 is always the last lock of a
transaction. NOTIFY serialises commits: only transactions with something to tell send it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from schema.alert import Notification
from schema.database import DATABASE_ERRORS, READER_LIMITS, Connection, connect
from schema.locks import LOCKS
from schema.queries import load_queries

CHANNEL = "voltwire_feed"
READ_ROWS_MAX = 500
POLL_S = 1.0  # NOTIFY only wakes: one that was lost costs a second.

queries = load_queries("schema", "feed.sql", LOCKS)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One told thing under its number; `body` is the object that subscribers get."""

    id: int
    kind: str
    device_id: str
    rule_id: str | None
    state: str
    late: bool
    body: bytes


async def fill_outbox(connection: Connection, told: Sequence[Notification]) -> str:
    """Write the rows and return the statement that must end the transaction."""
    block = await connection.fetchval(queries.next_block)
    await connection.copy_records_to_table(
        "outbox",
        columns=["block", "n", "kind", "device_id", "rule_id", "state", "late", "body"],
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
            )
            for n, row in enumerate(told)
        ],
    )
    return number_and_commit(block, len(told))


async def commit_statement(connection: Connection, notifications: Sequence[Notification]) -> str:
    """The statement that ends the transaction; with notifications, their rows are written first."""
    return await fill_outbox(connection, notifications) if notifications else "commit"


async def commit(connection: Connection, notifications: Sequence[Notification]) -> None:
    """End the transaction; subscribers are notified afterwards."""
    await connection.execute(await commit_statement(connection, notifications))


def number_and_commit(block: int, rows: int) -> str:
    """Integers only: the text goes as one simple query."""
    return str(queries.number_and_commit).format(rows=int(rows), block=int(block))


async def read_feed(
    connection: Connection, after: int, limit: int = READ_ROWS_MAX
) -> list[FeedItem]:
    """What was told after a number, in order."""
    return [feed_item(row) for row in await connection.fetch(queries.read_feed, after, limit)]


async def newest_id(connection: Connection) -> int:
    return int(await connection.fetchval(queries.newest_feed_id))


async def follow_feed(
    dsn: str, name: str, after: int | None = None
) -> AsyncIterator[tuple[int, list[FeedItem]]]:
    """Everything told after a number (None: from now on), for ever, through lost connections.

    Yields (number reached, items). The first yield may be empty: from then on nothing is missed.
    """
    while True:
        connection: Connection | None = None
        try:
            connection = await connect(dsn, name, READER_LIMITS, command_timeout_s=10)
            news = asyncio.Event()
            await connection.add_listener(CHANNEL, lambda *_, news=news: news.set())
            if after is None:
                after = await newest_id(connection)
                yield after, []
            while True:
                while items := await read_feed(connection, after):
                    after = items[-1].id
                    yield after, items
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await news.wait()
                news.clear()
        except DATABASE_ERRORS as error:
            log.warning("The feed cannot be read, trying again.", reader=name, error=repr(error))
        finally:
            if connection is not None:
                connection.terminate()
        await asyncio.sleep(POLL_S)


def feed_item(row: Any) -> FeedItem:
    body = msgspec.json.decode(row["body"])
    body["id"] = row["id"]
    return FeedItem(
        row["id"], row["kind"], row["device_id"], row["rule_id"], row["state"], row["late"],
        msgspec.json.encode(body),
    )  # fmt: skip


def _text(body: Any) -> str:
    return msgspec.json.encode(body).decode()
