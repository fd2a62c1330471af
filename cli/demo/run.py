"""The demo of `voltwire up --demo`: a month of history, then 20 devices that send until it stops."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

import httpx
import structlog
import typer

from broker.simulator.device import BatteryDevice, build_fleet
from broker.simulator.fleet import Fleet
from cli.api_client import api_client
from cli.demo.commands import commands_to_try
from cli.demo.fleet import BEHAVIOURS, DAY_S, PREFIX, SEED
from cli.demo.history import ANSWER_S_MAX, HistoryWriter
from cli.demo.registry import demo_registry
from cli.device_logins.in_database import DatabaseLogins
from cli.device_logins.lifecycle import AddressOf, UntilKnown, logged_in
from cli.roles.runner import Role
from runtime.addresses import http_url
from runtime.errors import StartError, ungrouped
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import unless_stopped

HISTORY_DAYS = 30
MARGIN_S = 3600  # An event may be as old as the settings allow when it arrives.

log = structlog.get_logger()


def demo(announced: asyncio.Event, until_known: UntilKnown) -> Role:
    """A role that begins when everything runs and is announced. An error ends it, not the system."""

    async def run(settings: Settings, stop: asyncio.Event, _: Health, __: Metrics) -> None:
        if not await unless_stopped(stop, announced.wait()):
            return
        try:
            await _run(settings, stop, until_known)
        except Exception:
            log.exception("The demo devices stopped; everything else keeps running.")

    return run


async def _run(settings: Settings, stop: asyncio.Event, until_known: UntilKnown) -> None:
    """1. Register devices and rules. 2. Write the history. 3. Send until stopped."""
    devices = build_fleet(PREFIX, BEHAVIOURS, booted_at=datetime.now(UTC), seed=SEED)
    ids = [each.device_id for each in devices]
    async with _addresses(settings, ids, stop, until_known) as address_of:
        if not await unless_stopped(stop, _prepare(settings, devices, address_of)):
            return
        typer.echo(commands_to_try(settings, datetime.now(UTC)))
        fleet = Fleet(address_of, devices, payload_bytes_max=settings.max_payload_bytes)
        await fleet.run(stop, drain_s=0)  # The ingestor stops too, so no receipt would come.


async def _prepare(
    settings: Settings, devices: Sequence[BatteryDevice], address_of: AddressOf
) -> None:
    async with demo_registry(settings) as registry:
        await registry.register()
        new = [each for each in devices if not await registry.has_events(each.device_id)]
    if not new:
        typer.echo("The demo devices have a history already, and send live again.")
        return
    days = min(HISTORY_DAYS, settings.max_event_age_days, settings.retention_days or HISTORY_DAYS)
    typer.echo(
        f"The demo writes {days} {'day' if days == 1 else 'days'} of history for {len(new)} devices …"
    )
    began = monotonic()
    url = http_url(settings.http_host, settings.http_port)
    async with api_client(url, {}, ANSWER_S_MAX) as client:
        writer = HistoryWriter(client, address_of if settings.authenticated else None)
        try:
            with ungrouped(StartError, httpx.HTTPError):
                await writer.write(new, days * DAY_S - MARGIN_S)
        except (StartError, httpx.HTTPError) as error:
            log.warning("The history of the demo is not complete.", reason=str(error))
    typer.echo(
        f"{writer.stored:,} events are stored after {monotonic() - began:.1f} s. From now on the devices send"
        " live; rules fire within a minute."
    )


@asynccontextmanager
async def _addresses(
    settings: Settings, device_ids: Sequence[str], stop: asyncio.Event, until_known: UntilKnown
) -> AsyncIterator[AddressOf]:
    if settings.authenticated:
        logins = DatabaseLogins(settings.dsn, f"{settings.instance} demo")
        async with logged_in(logins, settings.mqtt, device_ids, stop, until_known) as address_of:
            yield address_of
        return
    # Our own password would make the devices sessions of ours.
    address = replace(settings.mqtt, password=None) if settings.mqtt.embedded else settings.mqtt
    yield lambda _: address
