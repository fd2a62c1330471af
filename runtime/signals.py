"""How each of our processes is asked to stop, and how long it may take to stop."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from time import monotonic
from typing import Any

import structlog

STOP_WITHIN_S = 6.0  # The roles get six of a command's ten seconds; embedded parts stop after them.


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGINT or SIGTERM sets the event; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, stop, number)


def fail_on_signals(sentence: str) -> None:
    """A signal leaves this command unfinished: let it exit with code 1 and print this sentence."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(sentence))


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Run `work` until it ends or `stop` is set. Returns whether it ended by itself."""
    async with asyncio.TaskGroup() as group:
        working, stopped = group.create_task(work), group.create_task(stop.wait())
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
        working.cancel()
        stopped.cancel()
    return done


async def finish_in_time(work: asyncio.Task[None], stop: asyncio.Event) -> float:
    """Wait for `work` to end; six seconds after `stop` is set, cancel it.

    Returns how many seconds the shutdown took.
    """
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    began = monotonic()
    if not work.done():
        _, late = await asyncio.wait((work,), timeout=STOP_WITHIN_S)
        if late:
            structlog.get_logger().warning(
                "Shutdown timed out; unacknowledged messages will be redelivered."
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
