"""`voltwire replay`: sends dead letters through a pipeline of its own, directly on the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.database import database_errors, migrated_connection, running_dsn
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.tables import counts_of, counts_table
from ingestor.decode.acceptance import AcceptLimits
from ingestor.pipeline import Pipeline
from ingestor.replay import Replay, ReplayOutcome, ReplaySelection, count_dead_letters
from runtime.errors import ungrouped
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import fail_on_signals, finish_in_time, stop_on_signals
from schema.database import API_SESSION, DATABASE_ERRORS, Connection
from schema.event import Door, Reason
from schema.instants import parse_instant

NUMBER_MAX = 2**63 - 1
QUERY_S_MAX = 600  # Counting millions of dead letters is slow, and it blocks nobody.
PAGE_S_MAX = 60  # A database that needs longer for one page is down.
LINE_S = 10.0  # Between two progress lines without a terminal.


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
            help="This dead letter, even if it was replayed before; repeatable.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only dead letters of this device.")] = None,
    reason: Annotated[
        Reason | None, typer.Option(metavar="CODE", help="Only with this reason.")
    ] = None,
    door: Annotated[Door | None, typer.Option(help="Only from this door.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=_instant, metavar="TIME", help="Only those that arrived at or after this time."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=_instant, metavar="TIME", help="Only those that arrived before this time."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the dead letters, by reason.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters through the pipeline again, oldest first; by default all not replayed yet.

    It works on the database of DATABASE_URL, else on that of the voltwire up that runs. Times are
    RFC 3339. It is safe to repeat: events that are stored already are duplicates.
    """
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter("must be after --since", param_hint="--until")
    settings = command_settings()
    fail_on_signals("The replay was interrupted before it began: run it again.")
    settings = settings.model_copy(update={"database_url": SecretStr(running_dsn(settings))})
    selection = ReplaySelection(number or None, device, reason, door, since, until)
    work = _count if dry_run else _replay
    with database_errors("used", ", then run it again: stored events count as duplicates"):
        asyncio.run(work(settings, selection, as_json=as_json))


async def _count(settings: Settings, selection: ReplaySelection, *, as_json: bool) -> None:
    async with _connection(settings) as connection:
        counts, _ = await count_dead_letters(connection, selection)
    if as_json:
        print_json({"letters": counts.total(), "reasons": counts})
        return
    rows = [(str(reason), count, "") for reason, count in counts.most_common()]
    Console().print(counts_table([*rows, ("letters", counts.total(), "would be replayed")]))


async def _replay(settings: Settings, selection: ReplaySelection, *, as_json: bool) -> None:
    stop, outcome = asyncio.Event(), ReplayOutcome()
    stop_on_signals(stop)
    console = Console(stderr=as_json)  # For the progress; JSON is alone on standard output.
    replaying = asyncio.create_task(_pages(settings, selection, outcome, stop, console))
    try:
        await finish_in_time(replaying, stop)
    except DATABASE_ERRORS:
        if outcome.dead_letters:
            _show(outcome, complete=False, as_json=as_json)
        raise
    complete = outcome.next is None
    _show(outcome, complete=complete, as_json=as_json)
    if not complete:
        console.print("Stopped: run it again for the rest.")


async def _pages(
    settings: Settings,
    selection: ReplaySelection,
    outcome: ReplayOutcome,
    stop: asyncio.Event,
    console: Console,
) -> None:
    """Replay page by page up to the dead letter that is newest now; add each result to `outcome`."""
    async with _connection(settings) as connection:
        counts, newest = await count_dead_letters(connection, selection)
        selection = replace(selection, last=newest)
        with _progress(outcome, counts.total(), console) as show:
            async with _pipeline(settings) as pipeline:
                work = Replay(connection, pipeline, AcceptLimits.of(settings))
                while not stop.is_set():
                    async with asyncio.timeout(PAGE_S_MAX):
                        await work.page(selection, outcome)
                    if outcome.next is None:
                        return
                    show()
                    selection = replace(selection, after=outcome.next)


def _connection(settings: Settings) -> AbstractAsyncContextManager[Connection]:
    limits = API_SESSION | {"statement_timeout": f"{QUERY_S_MAX}s"}
    name = f"{settings.instance} replay"
    return migrated_connection(settings.dsn, name, limits, command_timeout_s=QUERY_S_MAX)


@asynccontextmanager
async def _pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    """Run a pipeline for the duration of the block. Raises a database error ungrouped."""
    health = Health(("database",))
    health.report("database", ok=True, detail="reachable")  # It counted the dead letters.
    pipeline = Pipeline.of(
        settings,
        name=f"{settings.instance} replay writer",
        door=Door.HTTP,
        health=health,
        metrics=Metrics(),
    )
    drained = asyncio.Event()
    with ungrouped(*DATABASE_ERRORS):
        async with asyncio.TaskGroup() as group:
            group.create_task(pipeline.run(drained))
            yield pipeline
            drained.set()


@contextmanager
def _progress(outcome: ReplayOutcome, total: int, console: Console) -> Iterator[Callable[[], None]]:
    """One updated line on a terminal, a new line every 10 s elsewhere."""
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


def _line(outcome: ReplayOutcome, total: int) -> Text:
    counts = {"stored": outcome.counts.stored, "duplicate": outcome.counts.duplicate}
    counts |= {"rejected": outcome.counts.rejected.total()}
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Text(
        f"{outcome.dead_letters} of {total} dead letters: {shown}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _show(outcome: ReplayOutcome, *, complete: bool, as_json: bool) -> None:
    rejected = outcome.counts.rejected
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
    rows = [
        ("letters", outcome.dead_letters, "dead letters, oldest first"),
        ("stored", outcome.counts.stored, "events"),
        ("duplicate", outcome.counts.duplicate, "events that were stored before"),
        ("rejected", rejected.total(), reasons or "events"),
    ]
    if as_json:
        print_json(counts_of(rows) | {"reasons": rejected, "complete": complete})
    else:
        Console().print(counts_table(rows))
