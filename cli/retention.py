"""`voltwire retention`: what is older than RETENTION_DAYS and REJECTED_DAYS, shown or taken away now."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from runtime.errors import StartError
from runtime.logging import configure_logging
from runtime.metrics import Metrics
from runtime.settings import Settings, load_settings
from runtime.signals import fail_on_signals
from schema.database import API_SESSION, DATABASE_ERRORS, WRITER_SESSION, connect
from schema.migrate import is_migrated

if TYPE_CHECKING:  # The other commands start faster without.
    from scheduler.retention import DropPlan

COUNT_S_MAX = 600  # Counting a month event by event takes its time, and nobody waits behind it.
COUNTING_LIMITS = API_SESSION | {"statement_timeout": f"{COUNT_S_MAX}s"}
KIB = 1024


def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go; nothing is changed.")
    ] = False,
) -> None:
    """Drop raw events older than RETENTION_DAYS and dead letters older than REJECTED_DAYS, now.

    The scheduler does the same once an hour. Whole months (UTC) go, with their keys; rollups stay. Works
    on the database of DATABASE_URL, or on that of the voltwire up that runs on DATA_DIR. Harmless when
    repeated or interrupted.
    """
    settings = load_settings()
    configure_logging(settings)
    fail_on_signals("Retention was interrupted: its next run, or the scheduler's, goes on there.")
    work = _show if dry_run else _run
    try:
        asyncio.run(work(settings, Console()))
    except DATABASE_ERRORS as error:
        raise StartError(
            f"The database cannot be used: {error or type(error).__name__}. Check DATABASE_URL and"
            " PGPASSWORD, then run it again."
        ) from error


async def _show(settings: Settings, console: Console) -> None:
    from scheduler.retention import count_rejected, preview  # noqa: PLC0415

    async with _connection(settings, COUNTING_LIMITS) as connection:
        months = await preview(connection, settings.retention_days, datetime.now(UTC))
        letters = await count_rejected(connection, settings.rejected_days)
    if settings.retention_days == 0:
        console.print("RETENTION_DAYS is 0: every raw event is kept.")
    elif not months:
        console.print(f"No month of raw events is older than {settings.retention_days} days.")
    else:
        console.print(_table([leaving for leaving in months if leaving.events]))
        console.print(f"{sum(not leaving.events for leaving in months)} partitions without events.")
    console.print(f"{letters} dead letters are older than {settings.rejected_days} days.")


async def _run(settings: Settings, console: Console) -> None:
    from scheduler.retention import drop_rejected, retain  # noqa: PLC0415

    def tell(sentence: str, **fields: str) -> None:
        shown = ", ".join(f"{name} {value}" for name, value in fields.items())
        console.print(f"{sentence} ({shown})", soft_wrap=True)

    async with _connection(settings, WRITER_SESSION) as connection:
        letters = await drop_rejected(connection, settings.rejected_days)
        console.print(f"{letters} dead letters older than {settings.rejected_days} days are gone.")
        if settings.retention_days == 0:
            console.print("RETENTION_DAYS is 0: every raw event is kept.")
        await retain(connection, settings.retention_days, datetime.now(UTC), Metrics(), tell)
    console.print("Retention is done.")


@asynccontextmanager
async def _connection(settings: Settings, limits: dict[str, str]) -> AsyncIterator[Any]:
    name = f"{settings.instance} retention"
    connection = await connect(_dsn(settings), name, limits, command_timeout_s=COUNT_S_MAX)
    try:
        if not await is_migrated(connection):
            raise StartError("The database is older than this version: run voltwire migrate first.")
        yield connection
    finally:
        connection.terminate()


def _dsn(settings: Settings) -> str:
    from runtime.postgres.server import running_postgres  # noqa: PLC0415

    if settings.database_url is not None:
        return settings.dsn
    if (dsn := running_postgres(settings.data_dir)) is not None:
        return dsn
    raise StartError(
        f"DATABASE_URL is not set, and no voltwire up runs on {settings.data_dir}: name the database,"
        " or start voltwire up first."
    )


def _table(months: Sequence["DropPlan"]) -> Table:
    table = Table(box=None)
    for heading in ("partition", "from", "to (UTC)"):
        table.add_column(heading)
    for heading in ("events", "keys", "size"):
        table.add_column(heading, justify="right")
    for leaving in months:
        month = leaving.month
        table.add_row(
            month.partition, f"{month.first:%Y-%m-%d}", f"{month.until:%Y-%m-%d}",
            str(leaving.events), str(leaving.keys), _size(month.size_bytes),
        )  # fmt: skip
    return table


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < KIB:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= KIB
    return f"{size_bytes:.1f} GiB"
