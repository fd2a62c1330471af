"""Every advisory lock that Voltwire takes in PostgreSQL.

| number | keys | holder | what it protects |
|---|---|---|---|
| 77 | two: 77, lane | each transaction that writes about devices | the order of everything about one device |
| 4240 | one | `voltwire migrate`, for its session | one migration at a time |
| 4241 | two: 4241, hash of the reader | the scheduler that publishes the feed over MQTT | one publisher |
| 4242 | one | a transaction that commits notifications, at its end | feed numbers in commit order |
| 4243 | one | the SQL function `make_event_partitions` | one maker of partitions at a time |
| 4244 | two: 4244, hash of the client id | the ingestor that is connected to the broker | one client per id |
| 4244 | one | the scheduler that keeps rollups, for its session | one roller at a time |
| 4245 | one | the scheduler that applies retention, for its session | one retention run at a time |
| 4246 | two: 4246, hash of the database | `voltwire restore`, for its session | one restore at a time |
| 4247 | two: 4247, hash of `channels` | the scheduler that delivers to channels | one deliverer |

Locks with one key and locks with two keys are separate in PostgreSQL, so the two uses of 4244 never conflict.

A transaction takes its locks in this order: lanes, ascending; then rows (device, profile, rule, config); then
4242, which is always last. So no two transactions can wait for each other.
"""

from collections.abc import Iterable

from schema.database import Connection
from schema.queries import load_queries

LANES = 16  # Fixed for a database: every process must compute the same lane.

LANE, MIGRATION, RELAY, FEED, INGEST, ROLLUPS, RETENTION = 77, 4240, 4241, 4242, 4244, 4244, 4245
RESTORE, CHANNELS = 4246, 4247
LOCKS = {
    "lane_lock": LANE,
    "feed_lock": FEED,
    "rollups_lock": ROLLUPS,
    "retention_lock": RETENTION,
    "restore_lock": RESTORE,
}

queries = load_queries("schema", "locks.sql", LOCKS)


def lane(device_no: int) -> int:
    return device_no % LANES


async def take_lanes(connection: Connection, lanes: Iterable[int] = range(LANES)) -> None:
    """Lock these lanes, by default all of them, until the transaction ends."""
    await connection.execute(queries.take_lanes, sorted(lanes))


async def take_lease(connection: Connection, lock: int, name: str) -> bool:
    """Try to take the lease `name`, which this connection then holds until it ends."""
    return bool(await connection.fetchval(queries.take_lease, lock, name))
