"""What every process of ours does alike: how it logs, and how it learns that it should stop."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from time import monotonic
from typing import Any

import stamina
import structlog

from schema.settings import LogFormat, Settings

STOP_WITHIN_S = 6.0  # Of the ten that a role has; the embedded parts stop after it.


def configure_logging(settings: Settings) -> None:
    """Text on a terminal, JSON elsewhere, to standard error; libraries only from warnings on."""
    text = settings.log_format is LogFormat.TEXT or (
        settings.log_format is LogFormat.AUTO and sys.stderr.isatty()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Without local variables: they hold passwords and what callers sent.
    plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    last: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if text
        else [structlog.processors.ExceptionRenderer(plain), structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    # An overlap or a late run is said by the job itself, a waiting request by its client.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    stamina.instrumentation.set_on_retry_hooks([])  # ingestor/patience.py says it once.


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGINT or SIGTERM sets the event; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, stop, number)


def fail_on_signals(sentence: str) -> None:
    """For commands whose work is not done when a signal ends them: exit code 1 and a sentence."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(sentence))


async def before(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Run work unless `stop` is set first. Returns whether the work was done."""
    async with asyncio.TaskGroup() as group:
        working, stopped = group.create_task(work), group.create_task(stop.wait())
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
        working.cancel()
        stopped.cancel()
    return done


async def finish_in_time(work: asyncio.Task[None], stop: asyncio.Event) -> float:
    """Let a role work until it ends; after `stop` it has six seconds, then it is cancelled.

    Returns how many seconds the stopping took.
    """
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    began = monotonic()
    if not work.done():
        _, late = await asyncio.wait((work,), timeout=STOP_WITHIN_S)
        if late:
            structlog.get_logger().warning(
                "Leaving without having stored everything: what is not acknowledged comes again."
            )
            work.cancel()
            await asyncio.wait((work,), timeout=1)
            return monotonic() - began
    await work
    return monotonic() - began


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    stop.set()
