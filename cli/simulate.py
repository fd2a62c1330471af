"""`voltwire simulate`: simulated devices on any broker, with a progress line and a final table."""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import randrange
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from broker.simulator.device import BatteryDevice, Behaviour, build_fleet
from broker.simulator.fleet import Fleet
from cli.device_logins.addresses import device_addresses
from cli.device_logins.forget import forget_devices
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.tables import Row, counts_of, counts_table
from runtime.addresses import http_url
from runtime.errors import VoltwireError, ungrouped
from runtime.settings import Settings
from runtime.signals import stop_on_signals

YEAR_S = 366 * 86_400
DEVICES_MAX = 1000  # One connection each, within the usual limit of 1,024 open files.
DRAIN_S = 8.0  # Together with the disconnects it is less than the 10 s to stop a command.
CONNECT_S_MAX = 10.0  # Without any connection by then, the fleet gives up.
REFRESH_S, LINE_S = 0.25, 10.0  # On a terminal, and elsewhere.
SEEDS = 2**32
LEFT_ASLEEP = "The devices announced a year of sleep, so their silence raises no alert."
FORGOTTEN = "The devices are forgotten."


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
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="At the end delete the devices with their events over the API of HTTP_HOST and HTTP_PORT.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a fleet of battery devices that keep each event until its receipt arrives.

    Devices connect to the broker of MQTT_URL, else of MQTT_HOST and MQTT_PORT. At the end each says that
    it sleeps for a year, so that its silence raises no alert. The exit code is 1 if no device could
    connect or any event has no receipt in the end.
    """
    settings = command_settings()
    seed = randrange(SEEDS) if seed is None else seed  # noqa: S311  # Not for a secret.
    behaviour = Behaviour(interval, loss, duplicate, skew, sleep)
    fleet_devices = build_fleet(
        prefix, [behaviour] * devices, booted_at=datetime.now(UTC), seed=seed
    )
    console = Console(stderr=as_json)  # JSON is alone on standard output.
    console.print(f"{devices} devices {prefix}-… on {settings.mqtt}, seed {seed}.", style="bold")
    with ungrouped(VoltwireError):
        fleet = asyncio.run(_run(settings, fleet_devices, duration, console, forget=forget))
    rows = _rows(fleet)
    if as_json:
        print_json({"seed": seed, **counts_of(rows), "reasons": fleet.counts.reasons})
    else:
        console.print(counts_table(rows))
    forgotten = not (forget and fleet.was_connected) or asyncio.run(_forget(settings, fleet))
    if fleet.was_connected and forgotten:
        console.print(FORGOTTEN if forget else LEFT_ASLEEP)
    if not fleet.was_connected:
        typer.echo(f"The broker {fleet.trouble}. {fleet.unsent} events were not sent.", err=True)
    elif fleet.waiting:
        typer.echo(
            f"{fleet.waiting} events have no receipt, {fleet.unsent} of them were never sent: check that"
            " the broker runs and accepts devices, and that voltwire ingest runs.",
            err=True,
        )
    if not forgotten or not fleet.was_connected or fleet.waiting:
        raise typer.Exit(1)


async def _run(
    settings: Settings,
    devices: Sequence[BatteryDevice],
    duration_s: float,
    console: Console,
    *,
    forget: bool,
) -> Fleet:
    stop = asyncio.Event()
    stop_on_signals(stop)
    url = http_url(settings.http_host, settings.http_port)
    ids = [each.device_id for each in devices]
    async with device_addresses(settings, url, ids, stop) as address_of:
        fleet = Fleet(
            address_of,
            devices,
            payload_bytes_max=settings.max_payload_bytes,
            keep_status=not forget,
        )
        await _run_fleet(fleet, stop, duration_s, console)
    return fleet


async def _run_fleet(
    fleet: Fleet, stop: asyncio.Event, duration_s: float, console: Console
) -> None:
    if duration_s:
        asyncio.get_running_loop().call_later(duration_s, stop.set)
    async with asyncio.TaskGroup() as group:
        showing = group.create_task(_show(fleet, console))
        connecting = group.create_task(_require_broker(fleet, stop))
        await fleet.run(stop, drain_s=DRAIN_S)
        showing.cancel()
        connecting.cancel()


async def _require_broker(fleet: Fleet, stop: asyncio.Event) -> None:
    """Give up if no device could connect; a broker that goes away later is waited for."""
    await asyncio.sleep(CONNECT_S_MAX)
    if not fleet.was_connected:
        stop.set()


async def _forget(settings: Settings, fleet: Fleet) -> bool:
    """Whether the API deleted every device; if not, standard error says so."""
    url = http_url(settings.http_host, settings.http_port)
    return await forget_devices(settings, url, fleet.device_ids, events=True)


async def _show(fleet: Fleet, console: Console) -> None:
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


def _progress(fleet: Fleet, began: float) -> Text:
    tally = fleet.counts
    counts = {"sent": tally.sent, "stored": tally.stored, "duplicate": tally.duplicate}
    counts |= {"rejected": tally.rejected, "waiting": fleet.waiting, "resent": tally.resent}
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    seconds = time.monotonic() - began
    return Text(
        f"{seconds:.0f} s, {fleet.connected} connected: {shown}", no_wrap=True, overflow="ellipsis"
    )


def _rows(fleet: Fleet) -> list[Row]:
    tally = fleet.counts
    reasons = ", ".join(f"{reason} {count}" for reason, count in tally.reasons.most_common())
    return [
        ("sent", tally.sent, "events, each counted once"),
        ("stored", tally.stored, "sent events"),
        ("duplicate", tally.duplicate, "copies that were recognised"),
        ("rejected", tally.rejected, reasons or "sent events"),
        ("waiting", fleet.waiting, "events without a receipt"),
        ("unsent", fleet.unsent, "of these never sent"),
        ("resent", tally.resent, "copies, because no receipt arrived"),
        ("dropped", tally.dropped, "events, because an outbox was full"),
    ]
