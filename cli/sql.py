"""`voltwire sql`: psql on the right database."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cli.database import database_errors, database_of
from cli.settings import command_settings
from runtime.errors import StartError
from runtime.postgres.programs import Program, without_password
from runtime.postgres.server import running_postgres
from runtime.settings import Settings
from schema.database import connect


def sql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PSQL-ARGUMENTS]...",
            help="What psql gets, for example -c 'select count(*) from events'.",
        ),
    ] = None,
    *,
    url: Annotated[
        bool,
        typer.Option(
            "--url", help="Print the address of the database, password included, and exit."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the rows of the query after -c as JSON.")
    ] = False,
) -> None:
    """Open psql on the database of DATABASE_URL, or on the embedded one in DATA_DIR.

    The view events has a row per event, the view readings a row per value; give both bounds of ts.
    If no voltwire up runs on DATA_DIR, the embedded server runs until psql ends.
    """
    given = _as_json(arguments or []) if as_json and not url else arguments or []
    settings = command_settings()
    if url:
        address = _url(settings)
        typer.echo(json.dumps({"url": address}) if as_json else address)
        return
    with database_errors("opened"), database_of(settings) as database:
        program = database.program("psql", asyncio.run(_server_major(database.dsn)))
        code = _run(program, database.dsn, given)
    if code != 0:
        raise typer.Exit(1)


def _as_json(arguments: list[str]) -> list[str]:
    """What psql gets for one JSON array. Raises BadParameter unless there is one query."""
    match arguments:
        case ["-c", query] if query.strip().rstrip(";"):
            rows = query.strip().rstrip(";")
            # The line ends keep a comment at the end of the query from reaching further.
            asked = f"select coalesce(json_agg(to_json(answer)), '[]') from (\n{rows}\n) answer"  # noqa: S608  # The query is the caller's own.
            return ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-c", asked]
    raise typer.BadParameter("give one query, as in --json -c 'select …'", param_hint="--json")


def _url(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.dsn
    if (dsn := running_postgres(settings.data_dir)) is not None:
        return dsn
    raise StartError(
        f"No voltwire up runs on {settings.data_dir}, so nothing can be connected to: start it, or use"
        " voltwire sql, which starts the server itself."
    )


def _run(program: Program, dsn: str, arguments: list[str]) -> int:
    """The exit code of psql, which runs as ourselves: its history and files are ours."""
    url, password = without_password(dsn)
    environment = os.environ | {"PGAPPNAME": "voltwire sql"}
    if password is not None:
        environment["PGPASSWORD"] = password
    with _interrupts_for_psql():
        return subprocess.run(
            [program.path, f"--dbname={url}", *arguments], env=environment, check=False
        ).returncode


@contextmanager
def _interrupts_for_psql() -> Iterator[None]:
    """Ctrl-C ends a query in psql, not us. SIGTERM ends psql with us."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _server_major(dsn: str) -> int:
    connection = await connect(dsn, "voltwire sql")
    try:
        return int(connection.get_server_version().major)
    finally:
        connection.terminate()
