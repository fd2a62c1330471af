"""The database user of the roles: it may do their work, and nothing to the tables themselves."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from runtime.errors import StartError
from runtime.health import Health
from schema.database import Connection
from schema.migrate import make_partitions, migrate, until_migrated
from tests.conftest import MAX_EVENT_AGE_DAYS
from tests.support.brokers.mqtt import until
from tests.support.database.app_role import as_user, database_user, run_reader_file

REFUSED = [
    "create table mine (x int)",
    "create temporary table mine (x int)",
    "create schema mine",
    "create function mine() returns int language sql return 1",
    "create index on event (received_at)",
    "alter table event add column mine int",
    "alter table event disable trigger all",
    "alter function make_event_partitions(timestamptz, timestamptz) security invoker",
    "drop table rejected",
    "drop view readings",
    "truncate event_key",
    "update schema_migration set checksum = ''",
    "insert into schema_migration values (9999, '9999_future', '')",
    "delete from schema_migration",
    "update audit set actor = ''",
    "delete from audit",
    "copy device to program 'true'",
    "create extension postgres_fdw",
]
REFUSED_TO_READERS = [
    "select * from credential",
    "select * from browser_session",
    "select * from audit",
    "select * from rejected",
    "insert into device (device_id) values ('x')",
    "update rule set enabled = false",
    "delete from event",
    "select make_event_partitions(now(), now())",
    "select setval('feed_no', 1)",
]

pytestmark = pytest.mark.slow  # Nearly every test has a database of its own.


@pytest.fixture(scope="module")
def role(postgres: str) -> Iterator[str]:
    with database_user(postgres) as name:
        yield name


@asynccontextmanager
async def connection_of(dsn: str, user: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(as_user(dsn, user))
    try:
        yield connection
    finally:
        connection.terminate()


async def grant(dsn: str, role: str) -> None:
    await migrate(dsn, max_age_days=MAX_EVENT_AGE_DAYS, app_role=role)


async def test_it_changes_no_table_and_not_the_record_of_migrations(dsn: str, role: str) -> None:
    await grant(dsn, role)
    async with connection_of(dsn, role) as app:
        for statement in REFUSED:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(statement)


async def test_it_reads_and_writes_every_table_also_those_of_later_migrations(
    dsn: str, db: Connection, role: str
) -> None:
    await grant(dsn, role)
    await grant(dsn, role)
    await db.execute("create table later (id bigint generated always as identity, x int)")
    await db.execute("create sequence later_no")
    async with connection_of(dsn, role) as app:
        await app.execute("insert into later (x) values (1)")
        await app.execute("update later set x = 2")
        await app.execute("select setval('later_no', nextval('later_no') + 9)")
        await app.execute("select setval('feed_no', nextval('feed_no') + 9)")
        assert await app.fetchval("select x from later") == 2
        await app.execute("delete from later")
        assert await app.fetch("select * from readings") == []


async def test_it_makes_partitions_that_the_owner_of_the_tables_owns(
    dsn: str, db: Connection, role: str
) -> None:
    await grant(dsn, role)
    far = datetime.now(UTC) + timedelta(days=400)
    async with connection_of(dsn, role) as app:
        made = await make_partitions(app, far, max_age_days=10)
    assert made >= 2
    owners = await db.fetch(
        "select distinct relowner::regrole::text from pg_class where relname ~ '^event_20'"
    )
    assert len(owners) == 1
    assert owners[0][0] == await db.fetchval("select current_user::text")


async def test_other_users_make_no_partitions(dsn: str, role: str) -> None:
    async with connection_of(dsn, role) as stranger:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.execute("select make_event_partitions(now(), now())")


async def test_a_role_that_does_not_exist_is_refused(dsn: str) -> None:
    with pytest.raises(StartError, match="The database has no role nobody_of_that_name: create it"):
        await grant(dsn, "nobody_of_that_name")


async def test_the_owner_its_members_and_superusers_are_refused(
    dsn: str, db: Connection, role: str
) -> None:
    with pytest.raises(StartError, match="postgres is a superuser"):
        await grant(dsn, "postgres")
    await db.execute(f'alter table event owner to "{role}"')
    with pytest.raises(StartError, match=f"{role} is the owner of the tables or a member"):
        await grant(dsn, role)
    await db.execute(f'create role "{role}_2" role "{role}"; alter table event owner to "{role}_2"')
    with pytest.raises(StartError, match=rf"or a member of it \({role}_2\)"):
        await grant(dsn, role)
    await db.execute(f'alter table event owner to postgres; drop role "{role}_2"')


async def test_a_role_that_may_change_tables_some_other_way_is_refused_and_gets_nothing(
    dsn: str, db: Connection, role: str
) -> None:
    await db.execute(f'grant create on schema public to "{role}"')
    await db.execute(f'grant pg_write_all_data to "{role}"')
    await db.execute(f'create table theirs (x int); alter table theirs owner to "{role}"')
    with pytest.raises(StartError) as refusal:
        await grant(dsn, role)
    for fault in (
        "it may create tables in the schema public (run: revoke create on schema public from public",
        "it may change the record of migrations",
        "it may change what the audit has recorded",
        "it owns theirs (run: reassign owned by",
    ):
        assert fault in str(refusal.value)
    assert not await db.fetchval("select has_table_privilege($1, 'event', 'select')", role)
    await db.execute(f'revoke pg_write_all_data from "{role}"')


async def test_a_login_without_rights_waits_and_says_what_to_run(dsn: str, role: str) -> None:
    health = Health(("schema",))
    waiting = asyncio.create_task(until_migrated(as_user(dsn, role), health))
    async with asyncio.timeout(30):
        await until(lambda: "schema" in health.checks)
        assert "run voltwire migrate --app-role" in health.checks["schema"][1]
        await grant(dsn, role)
        await waiting
    assert health.ok


async def test_migrating_with_it_needs_nothing_to_do_or_the_owner(
    dsn: str, db: Connection, role: str
) -> None:
    await grant(dsn, role)
    login = as_user(dsn, role)
    assert await migrate(login, max_age_days=MAX_EVENT_AGE_DAYS) == []
    await db.execute("delete from schema_migration where version = 12")
    with pytest.raises(StartError, match="set OWNER_DATABASE_URL to the login of the owner"):
        await migrate(login, max_age_days=MAX_EVENT_AGE_DAYS)


async def test_a_user_that_only_reads_sees_what_its_file_grants_and_changes_nothing(
    dsn: str, role: str
) -> None:
    asked = run_reader_file(dsn, role)
    assert asked.returncode != 0
    assert "Set GRAFANA_PASSWORD" in asked.stderr
    for password in ("first", "it's the second \\"):  # A second run changes the password.
        given = run_reader_file(dsn, role, GRAFANA_PASSWORD=password)
        assert given.returncode == 0, given.stderr
    async with connection_of(dsn, role) as reader:
        assert await reader.fetchval("show statement_timeout") == "30s"
        for table in (
            "events", "readings", "event", "rollup", "device", "profile", "presence", "rule", "incident",
        ):  # fmt: skip
            await reader.execute(f"select * from {table} limit 1")
        await reader.execute("set default_transaction_read_only = off")
        for statement in (
            *REFUSED_TO_READERS, *(each for each in REFUSED if "temporary" not in each),
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(statement)
