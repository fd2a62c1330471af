"""`voltwire selftest`: a ledger through both doors of a running system, and what the API makes of it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from random import randrange
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from runtime.addresses import connect_host
from runtime.errors import StartError, VoltwireError
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from runtime.signals import fail_on_signals, stop_on_signals

if TYPE_CHECKING:  # The other commands start faster without.
    from cli.selftest.ledger import Comparison, Ledger
    from cli.selftest.over_http import Api
    from cli.selftest.over_mqtt import LedgerDevice
    from cli.selftest.plan import Plan

EVENTS_MAX, DEVICES_MAX = 100_000, 100
TIMEOUT_S_MAX = 86_400
POLL_S = 0.5
READINGS_MIN = 3  # What looks wrong is asked again: it may have been on its way.
READ_S_MAX = 30.0  # For the last reading, when the time is up.
REFRESH_S = 0.1
SEEDS = 2**32
INTERRUPTED = "The selftest was interrupted and proves nothing: run it again."


def _checked(url: str | None) -> str | None:
    if url is not None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise typer.BadParameter("an address such as http://127.0.0.1:8000")
    return url


def selftest(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            callback=_checked,
            help="Where the API is.",
            show_default="of HTTP_HOST and HTTP_PORT",
        ),
    ] = None,
    events: Annotated[
        int, typer.Option(min=1, max=EVENTS_MAX, help="How many events for each of the two doors.")
    ] = 500,
    devices: Annotated[
        int, typer.Option(min=1, max=DEVICES_MAX, help="How many devices they come from.")
    ] = 5,
    timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=TIMEOUT_S_MAX,
            help="Seconds from the first event on until each must be answered and returned.",
        ),
    ] = 30,
    seed: Annotated[
        int | None, typer.Option(help="Cut and repeat the events as an earlier run did.")
    ] = None,
) -> None:
    """Send a ledger through MQTT and HTTP of a running system and compare it with what the API returns.

    The broker is that of MQTT_URL, else of MQTT_HOST and MQTT_PORT. A share of the events is sent
    twice on purpose, over the same door or over both: each must be there once. Nothing but its own
    new devices is touched, so it may run on a system in production. The exit code is 0 only if every
    event was answered and none is lost, doubled or altered.
    """
    fail_on_signals(INTERRUPTED)  # Not 0, as for the roles: nothing was proved.
    from cli.selftest.ledger import Ledger  # noqa: PLC0415
    from cli.selftest.plan import make_plan  # noqa: PLC0415
    from cli.selftest.report import findings, table, verdict  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings)
    seed = randrange(SEEDS) if seed is None else seed  # noqa: S311  # No secret.
    now = datetime.now(UTC)
    run = f"{int(now.timestamp() * 1000):012x}{randrange(1 << 16):04x}"  # noqa: S311
    plan = make_plan(
        run, now, events=events, devices=devices, seed=seed,
        payload_bytes_max=settings.max_payload_bytes,
    )  # fmt: skip
    ledger = Ledger(plan.entries)
    api = url or _own_url(settings)
    console = Console()
    console.print(
        f"Run {run}, seed {seed}, on {_shown(api)} and {settings.mqtt}.",
        style="bold",
        soft_wrap=True,
    )
    outcome = _unwrapped(_run(settings, api, plan, ledger, timeout, console))
    if outcome is None:
        sys.exit(INTERRUPTED)
    console.print(table(plan, ledger, outcome))
    for line in findings(outcome):
        console.print(line, soft_wrap=True)
    if fault := verdict(ledger, outcome, timeout):
        typer.echo(fault, err=True)
        raise typer.Exit(1)


def _unwrapped(work: "Coroutine[Any, Any, Comparison | None]") -> "Comparison | None":
    """Run it. Raises the first error of ours as such, not the tree that it came in."""
    fault: BaseException | None = None
    outcome = None
    try:
        outcome = asyncio.run(work)
    except* VoltwireError as group:
        fault = group
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    if fault is not None:
        raise fault
    return outcome


async def _run(
    settings: Settings, url: str, plan: "Plan", ledger: "Ledger", timeout_s: float, console: Console
) -> "Comparison | None":
    """None when a signal came first."""
    from cli.selftest.over_http import connected  # noqa: PLC0415
    from cli.selftest.over_mqtt import ledger_devices  # noqa: PLC0415

    stop = asyncio.Event()
    stop_on_signals(stop)

    async def work() -> "Comparison":
        async with connected(url, ledger) as api:
            await api.check()
            devices = ledger_devices(settings.mqtt, plan, ledger)
            async with _online(devices):
                return await _send_and_compare(api, devices, plan, ledger, timeout_s)

    async with asyncio.TaskGroup() as group:
        showing = group.create_task(_show(ledger, console))
        working = group.create_task(work())
        stopped = group.create_task(stop.wait())
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (showing, working, stopped):
            task.cancel()
    return None if working.cancelled() else working.result()


@asynccontextmanager
async def _online(devices: "Sequence[LedgerDevice]") -> AsyncIterator[None]:
    """Connected; at the end, also of an interrupted run, each says goodbye."""
    leave = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for device in devices:
            group.create_task(device.run(leave))
        try:
            async with asyncio.TaskGroup() as connecting:
                for device in devices:
                    connecting.create_task(device.connect())
            yield
        finally:
            async with asyncio.TaskGroup() as leaving:
                for device in devices:
                    leaving.create_task(device.say_goodbye())
            leave.set()


async def _send_and_compare(
    api: "Api", devices: "Sequence[LedgerDevice]", plan: "Plan", ledger: "Ledger", timeout_s: float
) -> "Comparison":
    """1. Send until everything is answered or the time is up. 2. Read until it agrees, or likewise."""
    deadline = monotonic() + timeout_s
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as sending:
            sending.create_task(api.post_all(plan))
            for device in devices:
                sending.create_task(device.send_all())
    return await _compared(api, plan, ledger, deadline)


async def _compared(api: "Api", plan: "Plan", ledger: "Ledger", deadline: float) -> "Comparison":
    from cli.selftest.ledger import compare  # noqa: PLC0415

    readings = 0
    while True:
        try:
            async with asyncio.timeout(max(deadline - monotonic(), READ_S_MAX)):
                outcome = compare(ledger, await api.read(plan))
        except TimeoutError:
            raise StartError(
                "The events could not be read back in time: see /health of the API, and run it again."
            ) from None
        readings += 1
        hopeless = not outcome.lost or monotonic() > deadline
        if outcome.clean or (hopeless and readings >= READINGS_MIN):
            return outcome
        await asyncio.sleep(POLL_S)


async def _show(ledger: "Ledger", console: Console) -> None:
    """On a terminal only."""
    with console.status("") as status:
        while True:
            answered = len(ledger.entries) - len(ledger.unanswered)
            status.update(f"{answered} of {len(ledger.entries)} events are answered …")
            await asyncio.sleep(REFRESH_S)


def _own_url(settings: Settings) -> str:
    host = connect_host(settings.http_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}"


def _shown(url: str) -> str:
    """Without a user's name and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
