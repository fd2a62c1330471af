"""One database with credentials for each file, and an API on it; its tests share an event loop."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from schema.database import Connection
from tests.support.http.access import Guarded, guarded_api, make_secrets


@pytest.fixture(scope="module")
def database(database: str) -> tuple[str, dict[str, str]]:
    """The DSN and the secrets in it."""
    return database, asyncio.run(make_secrets(database))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api_of_the_file(database: tuple[str, dict[str, str]]) -> AsyncIterator[Guarded]:
    async with guarded_api(*database) as guarded:
        yield guarded


@pytest.fixture
def api(api_of_the_file: Guarded) -> Guarded:
    """As a browser without cookies calls it from a new address."""
    api_of_the_file.from_elsewhere()
    api_of_the_file.http.cookies.clear()
    return api_of_the_file


@pytest_asyncio.fixture(loop_scope="module")
async def tables(database: tuple[str, dict[str, str]]) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database[0])
    yield connection
    connection.terminate()
