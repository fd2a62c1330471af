"""One PostgreSQL for the whole run, one fresh database per test from a migrated template."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from runtime.postgres.server import embedded_postgres
from runtime.settings import Settings
from schema.database import Connection
from schema.migrate import migrate
from tests.support.processes.services import copy_folder, keep_files_in_memory, temporary_folder

Administrate = Callable[[str], object]
CHAOS = "tests/acceptance/chaos/"
MAX_EVENT_AGE_DAYS = 800  # Fewer partitions than the default: databases are copied faster.
# What the tests need of durability is the server's, not the disk's.
FAST = {
    "fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB", "max_wal_size": "1GB",
    "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off",
}  # fmt: skip


class BySubject(LoadFileScheduling):
    """A file at a time per process; the chaos suite as a whole, for its tests share an installation."""

    def _split_scope(self, nodeid: str) -> str:
        return CHAOS if nodeid.startswith(CHAOS) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return BySubject(config, log)


def pytest_configure(config: pytest.Config) -> None:
    keep_files_in_memory()
    ignore_settings_of_the_developer()
    # An example may take long on a busy machine.
    hypothesis.settings.register_profile("ours", max_examples=30, deadline=None, database=None)
    hypothesis.settings.load_profile("ours")
    # Rich takes a third of a second of CPU to draw a traceback.
    *processors, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*processors, renderer])


def ignore_settings_of_the_developer() -> None:
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
    Settings.model_config["env_file"] = None


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a `voltwire up` that has migrated and stopped: a copy is made faster than another one.

    The first process of the test run that needs it makes it for all.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "data").exists():
            with temporary_folder() as first:
                with embedded_postgres(first / "data", options={"fsync": "off"}) as dsn:
                    asyncio.run(migrate(dsn, max_age_days=MAX_EVENT_AGE_DAYS))
                copy_folder(first / "data", folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of a server of the test run; TEST_DATABASE_URL names another one."""
    if named := os.environ.get("TEST_DATABASE_URL"):
        yield named
        return
    with temporary_folder() as folder:
        copy_folder(request.getfixturevalue("data_folder"), folder / "data")
        with embedded_postgres(folder / "data", options=FAST) as dsn:
            yield dsn


@pytest.fixture(scope="session")
def template(postgres: str, administrate: Administrate) -> str:
    """The name of a migrated database that every test's own is copied from."""
    name = f"template_{uuid4().hex}"
    administrate(f'create database "{name}"')
    asyncio.run(migrate(with_database(postgres, name), max_age_days=MAX_EVENT_AGE_DAYS))
    return name


@pytest.fixture(scope="session")
def administrate(postgres: str) -> Iterator[Administrate]:
    """Run a statement on the server; one connection for all, because each costs as much as a small copy."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        connection = runner.run(asyncpg.connect(postgres))
        yield lambda statement: runner.run(connection.execute(statement))
        runner.run(connection.close())


@pytest.fixture
def dsn(postgres: str, template: str, administrate: Administrate) -> Iterator[str]:
    """A migrated database of the test's own."""
    with fresh_database(postgres, administrate, template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def database(postgres: str, template: str, administrate: Administrate) -> Iterator[str]:
    """A migrated database of the file's own, for tests that leave each other's devices alone."""
    with fresh_database(postgres, administrate, template) as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(postgres: str, administrate: Administrate) -> Iterator[str]:
    """A database of the test's own in which nothing was migrated."""
    with fresh_database(postgres, administrate, "template1") as dsn:
        yield dsn


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    connection.terminate()


@contextmanager
def fresh_database(postgres: str, administrate: Administrate, template: str) -> Iterator[str]:
    """A copy of a template, made and dropped outside of the event loop of the test."""
    name = f"test_{uuid4().hex}"
    administrate(f'create database "{name}" template "{template}" strategy file_copy')
    yield with_database(postgres, name)
    administrate(f'drop database "{name}" with (force)')


def with_database(dsn: str, name: str) -> str:
    head, _, options = dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{options}"
