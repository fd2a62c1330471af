"""One database with credentials for each file; an API on it for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from schema.database import Connection
from tests.conftest import fresh_database
from tests.support.access import Guarded, guarded_api, make_secrets


@pytest.fixture(scope="module")
def database(postgres: str, template: str) -> Iterator[tuple[str, dict[str, str]]]:
    with fresh_database(postgres, template) as dsn:
        yield dsn, asyncio.run(make_secrets(dsn))


@pytest.fixture
async def api(database: tuple[str, dict[str, str]]) -> AsyncIterator[Guarded]:
    dsn, secrets = database
    async with guarded_api(dsn, secrets) as guarded:
        yield guarded


@pytest.fixture
async def tables(database: tuple[str, dict[str, str]]) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database[0])
    yield connection
    connection.terminate()
