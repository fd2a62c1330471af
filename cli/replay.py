"""`voltwire replay`: dead letters back through a pipeline of its own, straight on the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.tables import counts_table
from runtime.errors import StartError
from runtime.health import Health
from runtime.logging import configure_logging
from runtime.metrics import Metrics
from runtime.settings import Settings, load_settings
from runtime.signals import fail_on_signals, finish_in_time, stop_on_signals
from schema.database import DATABASE_ERRORS, READER_LIMITS, connect
from schema.event import Door, Reason
from schema.instants import parse_instant
from schema.migrate import is_migrated

if TYPE_CHECKING:  # The other commands start faster without.
    from ingestor.pipeline import Pipeline
    from ingestor.replay import ReplayOutcome, ReplaySelection

NUMBER_MAX = 2**63 - 1
QUERY_S_MAX = 600  # Counting millions of letters takes its time, and nobody waits behind it.
PAGE_S_MAX = 60  # A database that takes longer for one page is away.
LINE_S = 10.0  # Between two lines of progress where there is no terminal.


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def replay(
    *,
    number: Annotated[
        list[int] | None,
        typer.Option(
            "--id",
            min=1,
            max=NUMBER_MAX,
            metavar="N",
            help="This letter, also if it was replayed before; repeatable.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only of this device.")] = None,
    reason: Annotated[
        Reason | None, typer.Option(metavar="CODE", help="Only with this reason.")
    ] = None,
    door: Annotated[Door | None, typer.Option(help="Only from this door.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_instant, metavar="TIME", help="Only those that arrived from then on."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=_instant, metavar="TIME", help="Only those that arrived before."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the letters, by reason.")
    ] = False,
) -> None:
    """Send dead letters through the pipeline again, oldest first; by default all not replayed yet.

    Works on the database of DATABASE_URL; for the embedded one, ask the running voltwire up: POST
    /v1/rejected/replay. Times are RFC 3339. Harmless when repeated: what is stored is a duplicate then.
    """
    from ingestor.replay import ReplaySelection  # noqa: PLC0415

    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("it must be after --since", param_hint="--until")
    settings = load_settings()
    configure_logging(settings)
    fail_on_signals("The replay was interrupted before it began: run it again.")
    selection = ReplaySelection(number or None, device, reason, door, since, until)
    work = _count if dry_run else _replay
    try:
        asyncio.run(work(settings, selection, Console()))
    except DATABASE_ERRORS as error:
        raise StartError(
            f"The database cannot be used: {error or type(error).__name__}. Check DATABASE_URL and"
            " PGPASSWORD, then run it again: what was stored is a duplicate then."
        ) from error


async def _count(settings: Settings, selection: "ReplaySelection", console: Console) -> None:
    from ingestor.replay import count_dead_letters  # noqa: PLC0415

    async with _connection(settings) as connection:
        counts, _ = await count_dead_letters(connection, selection)
    rows = [(str(reason), letters, "") for reason, letters in counts.most_common()]
    console.print(counts_table([*rows, ("letters", counts.total(), "would be replayed")]))


async def _replay(settings: Settings, selection: "ReplaySelection", console: Console) -> None:
    from ingestor.replay import ReplayOutcome  # noqa: PLC0415

    stop, outcome = asyncio.Event(), ReplayOutcome()
    stop_on_signals(stop)
    replaying = asyncio.create_task(_pages(settings, selection, outcome, stop, console))
    try:
        await finish_in_time(replaying, stop)
    except DATABASE_ERRORS:
        if outcome.letters:
            console.print(_result(outcome))
        raise
    console.print(_result(outcome))
    if outcome.next is not None:
        console.print("Stopped: run it again for the rest.")


async def _pages(
    settings: Settings,
    selection: "ReplaySelection",
    outcome: "ReplayOutcome",
    stop: asyncio.Event,
    console: Console,
) -> None:
    """Page after page, up to the newest letter of now; what becomes of them is added to the outcome."""
    from ingestor.decode.acceptance import AcceptLimits  # noqa: PLC0415
    from ingestor.replay import Replay, count_dead_letters  # noqa: PLC0415

    async with _connection(settings) as connection:
        counts, newest = await count_dead_letters(connection, selection)
        selection = replace(selection, last=newest)
        with _progress(outcome, counts.total(), console) as show:
            async with _pipeline(settings) as pipeline:
                work = Replay(connection, pipeline, AcceptLimits.of(settings))
                while not stop.is_set():
                    async with asyncio.timeout(PAGE_S_MAX):
                        outcome.add(await work.page(selection))
                    if outcome.next is None:
                        return
                    show()
                    selection = replace(selection, after=outcome.next)


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[Any]:
    limits = READER_LIMITS | {"statement_timeout": f"{QUERY_S_MAX}s"}
    name = f"{settings.instance} replay"
    connection = await connect(settings.dsn, name, limits, command_timeout_s=QUERY_S_MAX)
    try:
        if not await is_migrated(connection):
            raise StartError("The database is older than this version: run voltwire migrate first.")
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def _pipeline(settings: Settings) -> AsyncIterator["Pipeline"]:
    """At work meanwhile. A fault of the database leaves as it came, not in a group."""
    from ingestor.pipeline import Pipeline  # noqa: PLC0415

    health = Health(("database",))
    health.report("database", ok=True, detail="reachable")  # It counted the letters.
    pipeline = Pipeline.of(
        settings,
        name=f"{settings.instance} replay writer",
        door=Door.HTTP,
        health=health,
        metrics=Metrics(),
    )
    drained = asyncio.Event()
    fault: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(pipeline.run(drained))
        try:
            yield pipeline
        except DATABASE_ERRORS as error:
            fault = error
            writing.cancel()
        drained.set()
    if fault is not None:
        raise fault


@contextmanager
def _progress(
    outcome: "ReplayOutcome", total: int, console: Console
) -> Iterator[Callable[[], None]]:
    """A line that is kept up to date on a terminal, one line every 10 s elsewhere."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda: live.update(_line(outcome, total), refresh=True)
        return
    shown_at = time.monotonic()

    def show() -> None:
        nonlocal shown_at
        if time.monotonic() >= shown_at + LINE_S:
            shown_at = time.monotonic()
            console.print(_line(outcome, total), soft_wrap=True)

    yield show


def _line(outcome: "ReplayOutcome", total: int) -> Text:
    counts = {"stored": outcome.stored, "duplicate": outcome.duplicate}
    counts |= {"rejected": outcome.rejected}
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Text(f"{outcome.letters} of {total} letters: {shown}", no_wrap=True, overflow="ellipsis")


def _result(outcome: "ReplayOutcome") -> Table:
    reasons = ", ".join(f"{reason} {count}" for reason, count in outcome.reasons.most_common())
    return counts_table([
        ("letters", outcome.letters, "dead letters, oldest first"),
        ("stored", outcome.stored, "events"),
        ("duplicate", outcome.duplicate, "events that were stored before"),
        ("rejected", outcome.rejected, reasons or "events"),
    ])  # fmt: skip
