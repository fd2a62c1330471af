"""Dead letters as the API lists them."""

from collections.abc import Mapping
from datetime import datetime

import asyncpg

from api.store.change import change, note
from api.store.database import Database
from runtime.errors import NotFound
from schema.queries import load_queries

queries = load_queries("api.store", "dead_letters.sql")


class DeadLetterStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        before: int,
        device_id: str | None,
        reason: str | None,
        door: str | None,
        start: datetime | None,
        end: datetime | None,
        *,
        replayed: bool | None,
        limit: int,
    ) -> list[asyncpg.Record]:
        """Return dead letters below the number `before`, the newest first.

        There is one more than `limit` if there is another page.
        """
        return await self._database.fetch(
            queries.list_dead_letters, before, device_id, reason, door, start, end, replayed, limit + 1
        )  # fmt: skip

    async def counts(
        self, device_id: str | None, door: str | None, start: datetime | None, end: datetime | None
    ) -> str:
        """How many there are per reason and in all, as JSON text. Raises Overloaded."""
        async with self._database.heavy_query_slot():
            return str(
                await self._database.fetch_value(
                    queries.count_dead_letters, device_id, door, start, end
                )
            )

    async def one(self, rejected_id: int) -> tuple[str, bytes]:
        """The dead letter as JSON text, and its payload. Raises NotFound."""
        row = await self._database.fetch_row(queries.one_dead_letter, rejected_id)
        if row is None:
            raise no_dead_letter(rejected_id)
        return row["body"], row["payload"]

    async def note_replay(self, selection: Mapping[str, str]) -> None:
        """The row of the audit, before the replay begins: what it does is in many transactions."""
        async with change(self._database) as (connection, _):
            await note(connection, "rejected.replay", details=selection)


def no_dead_letter(rejected_id: int) -> NotFound:
    return NotFound(f"There is no dead letter {rejected_id}.")
