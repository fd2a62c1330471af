"""Silent devices: one statement evaluates the devices that are due.

1. While no canary arrives, no device is evaluated; silence counts from when canaries arrive without a gap
   up to the last one: messages that still wait may be signs of life.
2. Offline: a last will without a newer sign of life for 10 s, or silence of twice the expected interval.
3. Late: silence of one and a half expected intervals.
4. Each change writes one notification in its own transaction; `offline` also opens an incident.
5. A device is flapping after more than 6 changes in an hour, and its incident stays open until an hour
   without a change.
"""

import asyncpg

from schema.alert import AlertState, Notification
from schema.database import Connection
from schema.feed import commit
from schema.presence import TIMES, PresenceState, presence_changed, silence_alert
from schema.queries import load_queries

queries = load_queries("scheduler", "silence.sql", TIMES)


async def sweep(connection: Connection, offline_after_s: int) -> int:
    """Evaluate up to 5,000 due devices and return how many changed their state."""
    await connection.execute("begin")
    try:
        evaluated = await connection.fetch(queries.sweep_presence, float(offline_after_s))
        changed = [row for row in evaluated if row["old_state"] != row["state"]]
        notifications = await _notifications(connection, changed)
        notifications += await _end_flapping(connection)
        await commit(connection, notifications)
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        raise
    return len(changed)


async def _notifications(
    connection: Connection, changed: list[asyncpg.Record]
) -> list[Notification]:
    notifications = [
        presence_changed(
            row["device_id"], row["state"], row["since"], row["reason"], row["last_seen"]
        )
        for row in changed
    ]
    offline = {row["device_no"]: row for row in changed if row["state"] == PresenceState.OFFLINE}
    if offline:
        opened = await connection.fetch(
            queries.open_silence_incidents,
            list(offline),
            [row["since"] for row in offline.values()],
        )
        for row in opened:
            device_id = offline[row["device_no"]]["device_id"]
            notifications.append(
                silence_alert(
                    device_id, row["incident_id"], row["opened_at"], AlertState.FIRING,
                    muted=row["muted"], channels=row["channels"],
                )
            )  # fmt: skip
    return notifications


async def _end_flapping(connection: Connection) -> list[Notification]:
    """The incidents that resolve because their devices are not flapping any more."""
    await connection.execute(queries.forget_owed_of_calm)
    return [
        silence_alert(
            row["device_id"],
            row["incident_id"],
            row["resolved_at"],
            AlertState.RESOLVED,
            muted=row["muted"],
            channels=row["channels"],
        )
        for row in await connection.fetch(queries.end_flapping)
    ]
