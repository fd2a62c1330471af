"""Everything together on Mosquitto with authentication on: the selftest loses and doubles nothing."""

import asyncio
import re

import asyncpg
import pytest

from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create
from schema.access.secrets import CredentialKind
from tests.acceptance.conftest import base_url, running_up
from tests.acceptance.deployment.test_broker_files import Site, site
from tests.support.processes.services import voltwire

__all__ = ["site"]  # The fixture.

pytestmark = pytest.mark.timeout(300)


async def admin_key(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        secret = await create(connection, COMMAND, CredentialKind.KEY, "selftest", [Scope.ADMIN])
    finally:
        await connection.close()
    assert secret is not None
    return secret


async def credentials_of_devices(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        count = await connection.fetchval("select count(*) from credential where kind = 'device'")
    finally:
        await connection.close()
    return int(count)


def test_the_selftest_passes_and_leaves_no_login_behind(site: Site) -> None:
    key = asyncio.run(admin_key(site.dsn))
    site.start_broker()
    site.watch("on")
    site.script.wait_for_port(site.port)
    with running_up(data=None, **site.settings("on")) as up:
        done = voltwire(
            "selftest", "--devices=4", "--events=200", f"--url={base_url(up)}",
            **site.settings("on"), API_KEY=key,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"lost\s+0", done.stdout)
    assert asyncio.run(credentials_of_devices(site.dsn)) == 0
