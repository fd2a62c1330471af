"""Migrations run once, however often they are started, and never on a database that they do not know."""

import asyncio

import asyncpg
import pytest

from runtime.errors import StartError
from schema.migrate import is_migrated, known_migrations, migrate

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.


async def test_a_fresh_database_gets_every_migration_and_a_second_run_does_nothing(
    empty_dsn: str,
) -> None:
    assert await migrate(empty_dsn, max_age_days=40) == [m.name for m in known_migrations()]
    assert await migrate(empty_dsn, max_age_days=40) == []


async def test_several_starts_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_dsn, max_age_days=400) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == [
        m.name for m in known_migrations()
    ]


async def test_a_database_newer_than_the_code_is_refused_with_a_sentence(
    dsn: str, db: object
) -> None:
    assert isinstance(db, asyncpg.Connection)
    await db.execute("insert into schema_migration values (9999, '9999_future', 'x')")
    with pytest.raises(StartError, match=r"newer Voltwire \(9999_future\)"):
        await migrate(dsn, max_age_days=40)
    with pytest.raises(StartError, match="newer Voltwire"):
        await is_migrated(db)


async def test_a_changed_migration_is_refused(dsn: str, db: object) -> None:
    assert isinstance(db, asyncpg.Connection)
    await db.execute("update schema_migration set checksum = 'other' where version = 1")
    with pytest.raises(StartError, match="0001_registry is not the file that was applied"):
        await migrate(dsn, max_age_days=40)


async def test_partitions_cover_the_accepted_window_and_only_one_run_makes_them(
    empty_dsn: str,
) -> None:
    await asyncio.gather(*(migrate(empty_dsn, max_age_days=3650) for _ in range(2)))
    connection = await asyncpg.connect(empty_dsn)
    found = await connection.fetchval(
        "select count(*) from pg_inherits where inhparent = 'event'::regclass"
    )
    await connection.close()
    assert 122 <= found <= 124


async def test_a_database_that_was_never_migrated_is_not_migrated(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    assert not await is_migrated(connection)
    await connection.close()
