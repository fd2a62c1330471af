"""One ingestor per client id: who holds the lease, who stands by, who takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest

from ingestor.mqtt.lease import Lease
from runtime.health import Health
from schema.database import Connection, fetch_row
from tests.conftest import with_database
from tests.support.brokers.mqtt import until

pytestmark = pytest.mark.slow


class Holder:
    def __init__(self, dsn: str, client_id: str = "voltwire-ingest") -> None:
        self.health = Health(())
        self.lease = Lease(dsn, client_id, self.health)

    @property
    def ok(self) -> bool | None:
        check = self.health.checks.get("lease")
        return None if check is None else check[0]


@asynccontextmanager
async def running(holder: Holder) -> AsyncIterator[Holder]:
    task = asyncio.create_task(holder.lease.run())
    try:
        yield holder
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_the_second_stands_by_and_takes_over_when_the_first_ends(dsn: str) -> None:
    second = Holder(dsn)
    async with running(Holder(dsn)) as first:
        await until(lambda: first.ok)
        async with running(second):
            await until(lambda: second.ok is False)
            assert "standing by" in second.health.checks["lease"][1]
            await asyncio.sleep(1.5)
            assert (first.ok, second.ok) == (True, False)
    async with running(second):
        await until(lambda: second.ok)


async def test_installations_with_other_names_do_not_meet(dsn: str) -> None:
    async with running(Holder(dsn, "a-ingest")) as a, running(Holder(dsn, "b-ingest")) as b:
        await until(lambda: a.ok and b.ok)


async def test_a_lost_connection_is_replaced_and_nobody_else_gets_in_between(
    dsn: str, db: Connection
) -> None:
    async with running(Holder(dsn)) as holder:
        await until(lambda: holder.ok)
        losing = asyncio.create_task(holder.lease.lost())
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%lease'"
        )
        await asyncio.sleep(3.5)
        assert holder.ok
        assert not losing.done()
        losing.cancel()


async def test_whose_own_former_connection_still_holds_it_ends_that_one(
    dsn: str, db: Connection
) -> None:
    """As after a black hole: we gave the connection up, the server does not know it."""
    holder = Holder(dsn)
    async with running(holder):
        await until(lambda: holder.ok)
    row = await fetch_row(
        db,
        "select pid, backend_start, pg_try_advisory_lock(4244, hashtext('voltwire-ingest')) as held"
        " from pg_stat_activity where pid = pg_backend_pid()",
    )
    assert row["held"], "the lock went with its connection"
    holder.lease._backend = row["pid"], row["backend_start"]
    async with running(holder):
        await until(db.is_closed)
        await asyncio.sleep(1.5)
        assert holder.ok


async def test_another_one_with_the_number_of_our_former_connection_is_left_alone(
    dsn: str, db: Connection
) -> None:
    """After a restart of the server, process numbers are reused."""
    row = await fetch_row(
        db,
        "select pg_backend_pid() as pid, pg_try_advisory_lock(4244, hashtext('voltwire-ingest'))",
    )
    holder = Holder(dsn)
    holder.lease._backend = row["pid"], datetime(2026, 1, 1, tzinfo=UTC)
    async with running(holder):
        await until(lambda: holder.ok is False)
        await asyncio.sleep(1.5)
        assert not db.is_closed()


async def test_while_the_database_cannot_be_queried_it_is_held_but_not_confirmed(
    dsn: str, db: Connection
) -> None:
    async with running(Holder(dsn)) as holder:
        await until(lambda: holder.ok)
        name = await db.fetchval("select current_database()")
        other = await asyncpg.connect(with_database(dsn, "postgres"))
        await other.execute(f'alter database "{name}" with allow_connections false')
        try:
            await db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name like '%lease'"
            )
            await until(lambda: holder.ok is False)
            await holder.lease.held()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await holder.lease.confirmed()
        finally:
            await other.execute(f'alter database "{name}" with allow_connections true')
            await other.close()
        async with asyncio.timeout(60):
            await holder.lease.confirmed()


async def test_who_comes_back_too_late_has_lost_it(dsn: str, db: Connection) -> None:
    async with running(Holder(dsn)) as holder:
        await until(lambda: holder.ok)
        # Other clients see both changes at once: the holder ends, and another one takes its place.
        await db.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name like '%lease';"
            "select pg_advisory_lock(4244, hashtext('voltwire-ingest'))"
        )
        async with asyncio.timeout(60):
            await holder.lease.lost()
        assert holder.ok is False
