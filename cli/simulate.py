"""`voltwire simulate`: simulated devices on any broker, with a progress line and a final table."""

import asyncio
import re
import time
from datetime import UTC, datetime
from random import randrange
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.tables import counts_table
from runtime.logging import configure_logging
from runtime.settings import load_settings
from runtime.signals import stop_on_signals

if TYPE_CHECKING:  # Other commands start faster without these imports.
    from broker.simulator.fleet import Fleet

YEAR_S = 366 * 86_400
DEVICES_MAX = 1000  # One connection each, within the usual limit of 1,024 open files.
DRAIN_S = 8.0  # Together with the disconnects it is less than the 10 s to stop a command.
REFRESH_S, LINE_S = 0.25, 10.0  # On a terminal, and elsewhere.
SEEDS = 2**32


def _checked(prefix: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,119}", prefix) is None:
        raise typer.BadParameter("a letter or digit, then up to 119 letters, digits or . _ : -")
    return prefix


def simulate(
    *,
    devices: Annotated[int, typer.Option(min=1, max=DEVICES_MAX, help="How many devices.")] = 20,
    interval: Annotated[
        float, typer.Option(min=0.01, max=YEAR_S, help="Seconds between two events of a device.")
    ] = 5,
    loss: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage of messages that are lost in transit.")
    ] = 0,
    duplicate: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage of messages that arrive twice.")
    ] = 0,
    skew: Annotated[
        float, typer.Option(min=0, max=YEAR_S, help="Each clock is off by up to this many seconds.")
    ] = 0,
    sleep: Annotated[
        float,
        typer.Option(
            min=0, max=YEAR_S, help="Seconds asleep between two reports; 0: always connected."
        ),
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option(help="Repeat the values and faults of an earlier run with this seed."),
    ] = None,
    duration: Annotated[
        float, typer.Option(min=0, max=YEAR_S, help="Seconds to run; 0: until stopped.")
    ] = 0,
    prefix: Annotated[
        str,
        typer.Option(
            callback=_checked,
            help="Prefix of the device ids; fleets that run at once need different ones.",
        ),
    ] = "sim",
) -> None:
    """Simulate a fleet of battery devices that keep each event until its receipt arrives.

    Devices connect to the broker of MQTT_URL, else of MQTT_HOST and MQTT_PORT. The exit code is 1 if
    any event has no receipt in the end.
    """
    from broker.simulator.device import Behaviour, build_fleet  # noqa: PLC0415
    from broker.simulator.fleet import Fleet  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings)
    seed = randrange(SEEDS) if seed is None else seed  # noqa: S311  # Not for a secret.
    behaviour = Behaviour(interval, loss, duplicate, skew, sleep)
    fleet = Fleet(
        settings.mqtt,
        build_fleet(prefix, [behaviour] * devices, booted_at=datetime.now(UTC), seed=seed),
        payload_bytes_max=settings.max_payload_bytes,
    )
    console = Console()
    console.print(f"{devices} devices {prefix}-… on {settings.mqtt}, seed {seed}.", style="bold")
    asyncio.run(_run(fleet, duration, console))
    console.print(_table(fleet))
    if fleet.waiting:
        typer.echo(
            f"{fleet.waiting} events have no receipt: check that the broker accepts devices and that"
            " voltwire ingest runs.",
            err=True,
        )
        raise typer.Exit(1)


async def _run(fleet: "Fleet", duration_s: float, console: Console) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    if duration_s:
        asyncio.get_running_loop().call_later(duration_s, stop.set)
    async with asyncio.TaskGroup() as group:
        showing = group.create_task(_show(fleet, console))
        await fleet.run(stop, drain_s=DRAIN_S)
        showing.cancel()


async def _show(fleet: "Fleet", console: Console) -> None:
    """One updated line on a terminal, a new line every 10 s elsewhere."""
    began = time.monotonic()
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_S)
            console.print(_progress(fleet, began), soft_wrap=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_progress(fleet, began), refresh=True)
            await asyncio.sleep(REFRESH_S)


def _progress(fleet: "Fleet", began: float) -> Text:
    tally = fleet.counts
    counts = {"sent": tally.sent, "stored": tally.stored, "duplicate": tally.duplicate}
    counts |= {"rejected": tally.rejected, "waiting": fleet.waiting, "resent": tally.resent}
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    seconds = time.monotonic() - began
    return Text(
        f"{seconds:.0f} s, {fleet.connected} connected: {shown}", no_wrap=True, overflow="ellipsis"
    )


def _table(fleet: "Fleet") -> Table:
    tally = fleet.counts
    reasons = ", ".join(f"{reason} {count}" for reason, count in tally.reasons.most_common())
    return counts_table((
        ("sent", tally.sent, "events, each counted once"),
        ("stored", tally.stored, "sent events"),
        ("duplicate", tally.duplicate, "copies that were recognised"),
        ("rejected", tally.rejected, reasons or "sent events"),
        ("waiting", fleet.waiting, "events without a receipt"),
        ("resent", tally.resent, "copies, because no receipt arrived"),
        ("dropped", tally.dropped, "events, because an outbox was full"),
    ))  # fmt: skip
