"""`voltwire retention`: shows or drops what is older than RETENTION_DAYS and REJECTED_DAYS."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.database import database_errors, migrated_connection, running_dsn
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.tables import size_text
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import fail_on_signals
from scheduler.retention import (
    DropPlan,
    count_old_dead_letters,
    delete_old_dead_letters,
    preview,
    retain,
)
from schema.database import API_SESSION, WRITER_SESSION, Connection

COUNT_S_MAX = 600  # Counting the events of a month is slow, and it blocks nobody.
COUNTING_LIMITS = API_SESSION | {"statement_timeout": f"{COUNT_S_MAX}s"}


def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be dropped.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Drop raw events older than RETENTION_DAYS and dead letters older than REJECTED_DAYS, now.

    The scheduler does the same once an hour. Whole months (UTC) are dropped with their keys; rollups
    stay. It works on the database of DATABASE_URL, with the login of OWNER_DATABASE_URL if that is set,
    or on that of the voltwire up that runs on DATA_DIR. It is safe to repeat or interrupt.
    """
    settings = command_settings().as_owner()
    fail_on_signals(
        "Retention was interrupted: its next run, or the scheduler's, continues from there."
    )
    work = _show if dry_run else _run
    with database_errors("used", ", then run it again"):
        asyncio.run(work(settings, as_json=as_json))


async def _show(settings: Settings, *, as_json: bool) -> None:
    async with _connection(settings, COUNTING_LIMITS) as connection:
        plans = await preview(connection, settings.retention_days, datetime.now(UTC))
        dead_letters = await count_old_dead_letters(connection, settings.rejected_days)
    if as_json:
        print_json({"months": [_fields(plan) for plan in plans], "dead_letters": dead_letters})
        return
    console = Console()
    if settings.retention_days == 0:
        console.print("RETENTION_DAYS is 0: every raw event is kept.")
    elif not plans:
        console.print(f"No month of raw events is older than {settings.retention_days} days.")
    else:
        console.print(_table([plan for plan in plans if plan.events]))
        console.print(f"{sum(not plan.events for plan in plans)} partitions without events.")
    console.print(f"{dead_letters} dead letters are older than {settings.rejected_days} days.")


async def _run(settings: Settings, *, as_json: bool) -> None:
    console = Console(stderr=as_json)  # JSON is alone on standard output.
    steps: list[dict[str, str]] = []

    def log(sentence: str, **fields: str) -> None:
        steps.append({"step": sentence, **fields})
        shown = ", ".join(f"{name} {value}" for name, value in fields.items())
        console.print(f"{sentence} ({shown})", soft_wrap=True)

    async with _connection(settings, WRITER_SESSION) as connection:
        dead_letters = await delete_old_dead_letters(connection, settings.rejected_days)
        console.print(
            f"{dead_letters} dead letters older than {settings.rejected_days} days were deleted."
        )
        if settings.retention_days == 0:
            console.print("RETENTION_DAYS is 0: every raw event is kept.")
        await retain(connection, settings.retention_days, datetime.now(UTC), Metrics(), log)
    console.print("Retention is done.")
    if as_json:
        print_json({"dead_letters": dead_letters, "steps": steps})


def _connection(
    settings: Settings, limits: dict[str, str]
) -> AbstractAsyncContextManager[Connection]:
    name = f"{settings.instance} retention"
    return migrated_connection(running_dsn(settings), name, limits, command_timeout_s=COUNT_S_MAX)


def _fields(plan: DropPlan) -> dict[str, object]:
    month = plan.month
    return {
        "partition": month.partition, "from": f"{month.first:%Y-%m-%d}",
        "to": f"{month.until:%Y-%m-%d}", "events": plan.events, "keys": plan.keys,
        "size_bytes": month.size_bytes,
    }  # fmt: skip


def _table(plans: Sequence[DropPlan]) -> Table:
    table = Table(box=None)
    for heading in ("partition", "from", "to (UTC)"):
        table.add_column(heading)
    for heading in ("events", "keys", "size"):
        table.add_column(heading, justify="right")
    for plan in plans:
        month = plan.month
        table.add_row(
            month.partition, f"{month.first:%Y-%m-%d}", f"{month.until:%Y-%m-%d}",
            str(plan.events), str(plan.keys), size_text(month.size_bytes),
        )  # fmt: skip
    return table
