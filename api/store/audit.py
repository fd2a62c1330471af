"""The audit as the API lists it."""

from datetime import datetime
from typing import NamedTuple

import asyncpg

from api.store.database import Database
from schema.queries import load_queries

queries = load_queries("api.store", "audit.sql")


class AuditFilter(NamedTuple):
    """Each that is given must match; [start, end)."""

    actor: str | None
    action: str | None
    target: str | None
    address: str | None
    start: datetime | None
    end: datetime | None


class AuditStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, before: int, wanted: AuditFilter, limit: int) -> list[asyncpg.Record]:
        """Rows numbered below `before`, the newest first, and one more than `limit` if there are more."""
        return await self._database.fetch(queries.list_audit, before, *wanted, limit + 1)
