"""The events of devices that were deleted with their events, deleted in pieces.

The transaction that deletes the device puts its number into the table `deleted_device`. From its commit on
nothing is written under the number, because numbers are never reused: a device that returns gets another one.
So the pieces need no lock that a writer waits for, and a crash between two of them leaves the rest to the
scheduler.
"""

from asyncio import get_running_loop

from schema.database import Connection
from schema.queries import load_queries

TABLES = ("event_key", "rollup", "seq_rollup", "rollup_mark")  # After the events, in this order.
PIECE_ROWS_MAX = 5000  # A statement takes about 50 ms; nothing waits longer for its rows.

queries = load_queries("schema", "deleted_devices.sql")


async def delete_events_for(connection: Connection, device_no: int, seconds: float) -> None:
    """Delete what the device has left, for at most about so long; the scheduler deletes the rest."""
    deadline = get_running_loop().time() + seconds
    while get_running_loop().time() < deadline and await _delete_piece(connection, device_no):
        pass


async def delete_events_of_deleted_devices(connection: Connection) -> None:
    """A job of the scheduler: delete everything that deleted devices have left."""
    for row in await connection.fetch(queries.deleted_devices):
        while await _delete_piece(connection, row["device_no"]):
            pass
        await connection.execute(queries.forget_deleted_device, row["device_no"])


async def _delete_piece(connection: Connection, device_no: int) -> bool:
    """Delete up to PIECE_ROWS_MAX rows, events first. Returns False if there are none."""
    month = await connection.fetchrow(queries.oldest_month, device_no)
    if month is not None:
        await connection.execute(queries.delete_events, device_no, *month, PIECE_ROWS_MAX)
        return True
    for table in TABLES:
        delete = queries.delete_rows.format(table=table)
        if await connection.fetchval(delete, device_no, PIECE_ROWS_MAX):
            return True
    return False
