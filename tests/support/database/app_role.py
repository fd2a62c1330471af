"""Users of the database other than its owner."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from runtime.postgres.home import PROGRAMS, wheel_folder
from tests.support.processes.services import ROOT

SQL = re.compile(r"```sql\n(.*?)```", re.DOTALL)


def documented_statements(heading: str, document: str = "docs/operations.md") -> list[str]:
    """The statements of the SQL example below a heading."""
    text = (ROOT / document).read_text("utf-8")
    found = SQL.search(text.split(f"# {heading}\n")[1])
    assert found is not None
    return [each.strip() for each in found[1].split(";\n") if each.strip()]


def run_reader_file(dsn: str, role: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Give `role` what deploy/grafana/reader.sql gives to `grafana`, with psql as its readers do."""
    script = (ROOT / "deploy/grafana/reader.sql").read_text("utf-8").replace("grafana", role)
    psql = wheel_folder() / PROGRAMS / "psql"
    return subprocess.run(
        [psql, "--no-psqlrc", "--quiet", f"--dbname={as_user(dsn, 'postgres')}"],
        input=script, env={"LC_ALL": "C", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def as_user(dsn: str, user: str) -> str:
    """The same database with another login; the servers of tests trust every login."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}@{host}").geturl()


@contextmanager
def database_user(postgres: str) -> Iterator[str]:
    """A login without any rights; the databases that grant it some must be gone when the block ends."""
    name = f"app_{uuid4().hex}"
    asyncio.run(_as_superuser(postgres, f'create role "{name}" login'))
    yield name
    asyncio.run(_as_superuser(postgres, f'drop role "{name}"'))


async def _as_superuser(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(as_user(dsn, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
