"""`voltwire migrate`: brings the database to this version."""

import asyncio
from typing import Annotated

import typer

from cli.database import database_errors
from cli.output import AsJson, print_json
from cli.settings import command_settings
from runtime.signals import fail_on_signals
from schema.migrate import migrate as run_migrations


def migrate(
    app_role: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also grant this database role what ingest, api and schedule need.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Migrate the database to this version. It is safe to repeat, also at the same time.

    It logs in with OWNER_DATABASE_URL, or DATABASE_URL if that is not set.
    """
    settings = command_settings().as_owner()
    fail_on_signals("The migration was interrupted: run it again.")
    with database_errors("migrated"):
        applied = asyncio.run(
            run_migrations(
                settings.dsn, max_age_days=settings.max_event_age_days, app_role=app_role
            )
        )
    if as_json:
        print_json({"applied": applied, "app_role": app_role})
        return
    typer.echo(f"Applied {', '.join(applied)}." if applied else "The database is up to date.")
    if app_role is not None:
        typer.echo(f"The role {app_role} may read and write the tables, and change none of them.")
