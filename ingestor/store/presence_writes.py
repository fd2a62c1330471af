"""Step 5 of the writing transaction: presence updates that change more than last_seen, and receipts.

`insert_keys` refreshes last_seen of devices that are online and sent telemetry only. Everything else is
decided by `update_presence`; both are in queries.sql and take their times from schema/presence.py.
"""

from collections.abc import Sequence
from typing import Any

from ingestor.batch import Batch
from ingestor.decode.presence import ALIVE
from schema.alert import AlertState, Notification
from schema.database import Connection
from schema.locks import LOCKS
from schema.presence import TIMES, presence_changed, silence_alert
from schema.queries import load_queries

queries = load_queries("ingestor.store", constants=LOCKS | TIMES)

SEPARATOR = "\x1f"  # Between ids in one text: a control character, which no id contains.


def telemetry_only_devices(batch: Batch) -> str:
    """The devices that sent telemetry and nothing else, joined."""
    return SEPARATOR.join(
        [str(number) for number, update in sorted(batch.presence.items()) if update is ALIVE]
    )


def devices_with_more(batch: Batch) -> str:
    """The devices that sent something else, too, joined."""
    return SEPARATOR.join(
        [str(number) for number, update in batch.presence.items() if update is not ALIVE]
    )


async def update_presence(
    connection: Connection, batch: Batch, offline_after_s: float, *, needs_full_update: bool
) -> list[Notification]:
    """Write the presence updates of a batch. Returns the notifications of changed states.

    Without `needs_full_update`, `insert_keys` has written everything for `telemetry_only_devices`.
    """
    updates = sorted(pair for pair in batch.presence.items() if pair[1] is not ALIVE)
    if not updates and not needs_full_update:
        return []
    updated = await connection.fetch(
        queries.update_presence,
        telemetry_only_devices(batch),
        [device_no for device_no, _ in updates],
        [update.life for _, update in updates],
        [update.asleep for _, update in updates],
        [update.sleep_s for _, update in updates],
        [update.will for _, update in updates],
        float(offline_after_s),
        [update.birth for _, update in updates],
        [update.session for _, update in updates],
        [update.will_session for _, update in updates],
    )
    changed = [row for row in updated if row["was"] != row["state"]]
    return await _notifications(connection, changed) if changed else []


async def set_receipts(connection: Connection, batch: Batch) -> None:
    """Write what births ask for."""
    if not batch.receipts:
        return
    wanted = sorted(batch.receipts.items())
    await connection.execute(
        queries.set_receipts, [number for number, _ in wanted], [value for _, value in wanted]
    )


async def _notifications(connection: Connection, changed: Sequence[Any]) -> list[Notification]:
    """Every change of state, and the resolved incident of a device that was offline.

    The incident of a device that is flapping stays open; the sweep resolves it.
    """
    device_ids = await _device_ids(connection, [row["device_no"] for row in changed])
    notifications = [
        presence_changed(
            device_ids[row["device_no"]],
            row["state"],
            row["since"],
            row["reason"],
            row["last_seen"],
        )
        for row in changed
    ]
    returned = [
        row["device_no"] for row in changed if row["was"] == "offline" and not row["flapping"]
    ]
    if returned:
        await connection.execute(queries.forget_owed_silence, returned)
        for row in await connection.fetch(queries.resolve_silence, returned):
            device_id, at = device_ids[row["device_no"]], row["resolved_at"]
            notifications.append(
                silence_alert(
                    device_id, row["incident_id"], at, AlertState.RESOLVED, channels=row["channels"]
                )
            )
    return notifications


async def _device_ids(connection: Connection, device_nos: Sequence[int]) -> dict[int, str]:
    rows = await connection.fetch(queries.read_device_ids, device_nos)
    return {row["device_no"]: row["device_id"] for row in rows}
