"""How PostgreSQL runs the statements of a batch in a database that has no statistics yet."""

from ingestor.store import registry, transaction
from schema.database import connect

DEVICES = 500


async def test_a_batch_does_not_read_the_presence_of_all_devices(dsn: str) -> None:
    session = transaction.BY_KEY_SESSION | {"plan_cache_mode": "force_generic_plan"}
    db = await connect(dsn, "plans", session)
    try:
        names = [f"d{n}" for n in range(DEVICES)]
        await db.execute(registry.queries.add_devices, names, "battery")
        await db.execute(f"prepare keys as {transaction.queries.insert_keys}")
        lines = await db.fetch("explain execute keys ('1', 'e', 1, '1', '', '')")
    finally:
        await db.close()
    assert not [line[0] for line in lines if "Seq Scan on presence" in line[0]]
