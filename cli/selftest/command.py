"""`voltwire selftest`: sends a ledger of events to a running system and reads it back over the API."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from random import randrange
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console

from cli.api_client import UrlOption, key_header, without_credentials
from cli.device_logins.addresses import device_addresses
from cli.device_logins.forget import forget_devices
from cli.output import AsJson, print_json
from cli.selftest.ledger import Comparison, Ledger, compare
from cli.selftest.over_http import Api, connected
from cli.selftest.over_mqtt import LedgerDevice, ledger_devices
from cli.selftest.plan import Plan, make_plan
from cli.selftest.report import document, findings, table, verdict
from cli.settings import command_settings
from runtime.addresses import http_url
from runtime.errors import StartError, VoltwireError, ungrouped
from runtime.settings import Settings
from runtime.signals import fail_on_signals, stop_on_signals

EVENTS_MAX, DEVICES_MAX = 100_000, 100
TIMEOUT_S_MAX = 86_400
POLL_S = 0.5
READS_MIN = 3  # A wrong result is read again, as events may still be in flight.
READ_S_MAX = 30.0  # For the last read, after the timeout.
REFRESH_S = 0.1
SEEDS = 2**32
INTERRUPTED = "The selftest was interrupted and proves nothing: run it again."


def selftest(
    *,
    url: UrlOption = None,
    events: Annotated[
        int,
        typer.Option(min=1, max=EVENTS_MAX, help="How many events to send over each door."),
    ] = 500,
    devices: Annotated[
        int, typer.Option(min=1, max=DEVICES_MAX, help="How many devices send them.")
    ] = 5,
    timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=TIMEOUT_S_MAX,
            help="Seconds until every event must be answered and returned by the API.",
        ),
    ] = 30,
    seed: Annotated[
        int | None,
        typer.Option(help="Group and repeat the events as in an earlier run with this seed."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send events to a running system over MQTT and HTTP, and compare them with what the API returns.

    The broker is that of MQTT_URL, else of MQTT_HOST and MQTT_PORT. Some events are sent twice on
    purpose, over the same door or over both, and each must be stored once. The selftest changes nothing
    but its own new devices, so it may run on a production system. The exit code is 0 only if every event
    was answered and none is lost, duplicated or altered.
    """
    fail_on_signals(INTERRUPTED)  # Unlike for a role, exit code 0 would claim success.
    settings = command_settings()
    seed = randrange(SEEDS) if seed is None else seed  # noqa: S311  # Not for a secret.
    now = datetime.now(UTC)
    run = f"{int(now.timestamp() * 1000):012x}{randrange(1 << 16):04x}"  # noqa: S311
    plan = make_plan(
        run, now, events=events, devices=devices, seed=seed,
        payload_bytes_max=settings.max_payload_bytes,
    )  # fmt: skip
    ledger = Ledger(plan.entries)
    api = url or http_url(settings.http_host, settings.http_port)
    console = Console(stderr=as_json)  # JSON is alone on standard output.
    console.print(
        f"Run {run}, seed {seed}, on {without_credentials(api)} and {settings.mqtt}.",
        style="bold",
        soft_wrap=True,
    )
    with ungrouped(VoltwireError):
        outcome = asyncio.run(_run(settings, api, plan, ledger, timeout, console))
    if outcome is None:
        sys.exit(INTERRUPTED)
    fault = verdict(ledger, outcome, timeout)
    if as_json:
        print_json({"run": run, "seed": seed, **document(plan, ledger, outcome, fault)})
    else:
        console.print(table(plan, ledger, outcome))
        for line in findings(outcome):
            console.print(line, soft_wrap=True)
    if fault:
        typer.echo(fault, err=True)
        raise typer.Exit(1)


async def _run(
    settings: Settings, url: str, plan: Plan, ledger: Ledger, timeout_s: float, console: Console
) -> Comparison | None:
    """Returns None if a signal arrives first."""
    stop = asyncio.Event()
    stop_on_signals(stop)

    async def work() -> Comparison:
        async with connected(url, ledger, key_header(settings)) as api:
            await api.check()
            ids = plan.device_ids
            async with (
                device_addresses(settings, url, ids, stop) as address_of,
                _forgotten(settings, url, ids) as found,
            ):
                devices = ledger_devices(address_of, plan, ledger)
                async with _online(devices):
                    outcome = await _send_and_compare(api, devices, plan, ledger, timeout_s)
                found.extend(outcome.findings)
                return outcome

    async with asyncio.TaskGroup() as group:
        showing = group.create_task(_show(ledger, console))
        working = group.create_task(work())
        stopped = group.create_task(stop.wait())
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (showing, working, stopped):
            task.cancel()
    return None if working.cancelled() else working.result()


@asynccontextmanager
async def _forgotten(
    settings: Settings, url: str, device_ids: Sequence[str]
) -> AsyncIterator[list[str]]:
    """Forget the devices at the end, even if interrupted; their events stay if anything was found."""
    found: list[str] = []
    try:
        yield found
    finally:
        await forget_devices(settings, url, device_ids, events=not found)


@asynccontextmanager
async def _online(devices: Sequence[LedgerDevice]) -> AsyncIterator[None]:
    """Keep the devices connected; afterwards each publishes its closing status, even if interrupted."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for device in devices:
            group.create_task(device.run(stop))
        try:
            async with asyncio.TaskGroup() as connecting:
                for device in devices:
                    connecting.create_task(device.connect())
            yield
        finally:
            async with asyncio.TaskGroup() as closing:
                for device in devices:
                    closing.create_task(device.publish_closing_status())
            stop.set()


async def _send_and_compare(
    api: Api, devices: Sequence[LedgerDevice], plan: Plan, ledger: Ledger, timeout_s: float
) -> Comparison:
    """1. Send until all is answered or time is up. 2. Read until it matches or time is up."""
    deadline = monotonic() + timeout_s
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as sending:
            sending.create_task(api.post_all(plan))
            for device in devices:
                sending.create_task(device.send_all())
    return await _compared(api, plan, ledger, deadline)


async def _compared(api: Api, plan: Plan, ledger: Ledger, deadline: float) -> Comparison:
    reads = 0
    while True:
        try:
            async with asyncio.timeout(max(deadline - monotonic(), READ_S_MAX)):
                outcome = compare(ledger, await api.read(plan))
        except TimeoutError:
            raise StartError(
                "The events could not be read back in time: check /health of the API, then run it again."
            ) from None
        reads += 1
        final = not outcome.lost or monotonic() > deadline
        if outcome.clean or (final and reads >= READS_MIN):
            return outcome
        await asyncio.sleep(POLL_S)


async def _show(ledger: Ledger, console: Console) -> None:
    """Show the progress, on a terminal only."""
    with console.status("") as status:
        while True:
            answered = len(ledger.entries) - len(ledger.unanswered)
            status.update(f"{answered} of {len(ledger.entries)} events are answered …")
            await asyncio.sleep(REFRESH_S)
