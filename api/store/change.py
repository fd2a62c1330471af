"""A change over HTTP: one transaction with its row of the audit, which ends with its notifications."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from api.auth.caller import caller
from api.store.database import Database
from schema.access.audit import record
from schema.alert import AlertState, Notification, alert
from schema.database import Connection
from schema.feed import commit
from schema.queries import load_queries

CHANGE_S_MAX = 4.5  # A change that does not succeed answers 503 within 5 s.

queries = load_queries("api.store", "change.sql")


@asynccontextmanager
async def change(
    database: Database, seconds_max: float = CHANGE_S_MAX
) -> AsyncIterator[tuple[Connection, list[Notification]]]:
    """A connection in a transaction, and the list of notifications to send. Raises TimeoutError."""
    async with database.connection(seconds_max) as connection:
        notifications: list[Notification] = []
        await connection.execute("begin")
        try:
            yield connection, notifications
            await commit(connection, notifications)
        except Exception:
            if not connection.is_closed():
                await connection.execute("rollback")
            raise


async def note(
    connection: Connection,
    action: str,
    target: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """The row of the audit: what the caller does, and to what. No secret belongs in `details`."""
    await record(connection, caller().actor, action, target, details)


async def increment_rules_version(connection: Connection) -> None:
    """Make every writer read rules and silences again once this transaction is committed."""
    await connection.execute(queries.increment_rules_version)


async def end_incidents(
    connection: Connection, *, device_no: int | None = None, rule_id: str | None = None
) -> list[Notification]:
    """End the open incidents of a changed device or rule, and return their notifications.

    The caller holds the lanes of the device or rule.
    """
    await connection.execute(queries.lock_alert_states, device_no, rule_id)
    return [
        alert(
            device_id=row["device_id"],
            metrics={},
            time=row["resolved_at"],
            incident_id=row["incident_id"],
            rule_id=row["rule_id"],
            rule_name=row["rule_name"],
            severity=row["severity"],
            state=AlertState.RESOLVED,
            metric=row["metric"],
            op=row["op"],
            threshold=row["threshold"],
            muted=row["muted"],
            channels=row["channels"] or (),
        )
        for row in await connection.fetch(queries.end_incidents, device_no, rule_id)
    ]
