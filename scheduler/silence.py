"""Who fell silent: one statement judges the devices that are due.

1. Nobody is judged while no canary is heard, and silence is counted only from when we began to hear.
2. A last will nobody answered within 10 s, or silence of twice the expected interval: offline.
3. Silence of one and a half intervals: late.
4. Each change is told once, in the transaction that makes it; `offline` opens an incident.
"""

from typing import Any

from schema.alert import AlertState, Notification
from schema.database import Connection
from schema.feed import commit
from schema.presence import TIMES, PresenceState, presence_changed, silence_alert
from schema.queries import load_queries

queries = load_queries("scheduler", constants=TIMES)


async def sweep(connection: Connection, offline_after_s: int) -> int:
    """BatchBuilder up to 5,000 due devices and return how many changed their state."""
    await connection.execute("begin")
    try:
        judged = await connection.fetch(queries.sweep_presence, float(offline_after_s))
        changed = [row for row in judged if row["was"] != row["state"]]
        told = await _tell(connection, changed)
        await commit(connection, told)
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        raise
    return len(changed)


async def _tell(connection: Connection, changed: list[Any]) -> list[Notification]:
    told = [
        presence_changed(
            row["device_id"], row["state"], row["since"], row["reason"], row["last_seen"]
        )
        for row in changed
    ]
    gone = {row["device_no"]: row for row in changed if row["state"] == PresenceState.OFFLINE}
    if gone:
        opened = await connection.fetch(
            queries.open_silence, list(gone), [row["since"] for row in gone.values()]
        )
        for row in opened:
            name = gone[row["device_no"]]["device_id"]
            told.append(
                silence_alert(name, row["incident_id"], row["opened_at"], AlertState.FIRING)
            )
    return told
