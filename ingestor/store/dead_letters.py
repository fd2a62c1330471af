"""Step 4 of the writing transaction, for what was rejected."""

from ingestor.batch import Batch
from schema.database import Connection

COLUMNS = ("received_at", "door", "device_id", "reason", "detail", "item", "payload")


async def insert_dead_letters(connection: Connection, batch: Batch) -> None:
    records = [
        (
            rejection.received_at, str(message.door), rejection.device_id,
            str(rejection.reason), rejection.detail, rejection.item, rejection.payload,
        )
        for rejection, message, *_ in (item for item in batch.dead_letters if item.is_new)
    ]  # fmt: skip
    if records:
        await connection.copy_records_to_table("rejected", records=records, columns=COLUMNS)
