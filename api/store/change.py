"""A change over HTTP: one transaction, and what it tells subscribers, at its end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from api.store.database import CHANGE_S_MAX, Database
from schema.alert import AlertState, Notification, alert
from schema.database import Connection
from schema.feed import commit
from schema.queries import load_queries

queries = load_queries("api.store", "rules.sql")


@asynccontextmanager
async def change(reader: Database) -> AsyncIterator[tuple[Any, list[Notification]]]:
    """A connection in a transaction, and the list of what is to be told. Raises TimeoutError."""
    async with reader.connection(CHANGE_S_MAX) as connection:
        told: list[Notification] = []
        await connection.execute("begin")
        try:
            yield connection, told
            await commit(connection, told)
        except Exception:
            if not connection.is_closed():
                await connection.execute("rollback")
            raise


async def end_incidents(
    connection: Connection, *, device_no: int | None = None, rule_id: str | None = None
) -> list[Notification]:
    """Of a device or rule that is no more what it was; their lanes are ours. Returns what to tell."""
    return [
        alert(
            device_id=row["device_id"],
            metrics={},
            time=row["resolved_at"],
            incident_id=row["incident_id"],
            rule_id=row["rule_id"],
            severity=row["severity"],
            state=AlertState.RESOLVED,
            metric=row["metric"],
            op=row["op"],
            threshold=row["threshold"],
        )
        for row in await connection.fetch(queries.end_incidents, device_no, rule_id)
    ]
