"""Step 4 of the writing transaction, for duplicates: which of them are no resend but a reused event id.

A device that numbers its events with a small counter sends the same ids again for other readings. Both
the stored event and the duplicate must have their own time, `timestamp` or `ts`, and these must differ: the
time of arrival and `age_ms` differ from copy to copy. An event that is not kept any more counts as a resend.
A derived id is a hash of the content, so it is never reused. A time without offset is also compared as UTC:
it was stored so if the device got its time zone later.
"""

from datetime import datetime

from ingestor.batch import Batch
from schema.database import Connection
from schema.event import AUTO_ID, Event
from schema.instants import from_epoch_us
from schema.locks import LOCKS
from schema.presence import TIMES
from schema.queries import load_queries

queries = load_queries("ingestor.store", constants=LOCKS | TIMES)


async def record_reused_ids(
    connection: Connection, batch: Batch, new_keys: set[tuple[int, str]]
) -> frozenset[int]:
    """Count the reused ids of each device, and return their places in the batch. It runs after COPY.

    A batch without new events whose commit was in doubt is written again, and then counted twice.
    """
    if len(new_keys) == len(batch.rows):
        return frozenset()
    places = [place for place in batch.repeats(new_keys) if _may_be_reused(batch.rows[place].event)]
    if not places:
        return frozenset()
    rows = [batch.rows[place] for place in places]
    reused = await connection.fetch(
        queries.record_reused_ids,
        [row.device_no for row in rows],
        [row.event.event_id for row in rows],
        [row.event.ts for row in rows],
        places,
        [_as_utc(row.event) for row in rows],
    )
    return frozenset(row["place"] for row in reused)


def _may_be_reused(event: Event) -> bool:
    return event.own_time and not event.event_id.startswith(AUTO_ID)


def _as_utc(event: Event) -> datetime | None:
    return None if event.wall_us is None else from_epoch_us(event.wall_us)
