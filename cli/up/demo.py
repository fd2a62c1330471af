"""The fleet of `voltwire up --demo`: 20 devices, of which three sleep and one is faulty."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from broker.simulator.device import Behaviour, build_fleet
from broker.simulator.fleet import Fleet
from cli.device_logins.in_database import DatabaseLogins
from cli.device_logins.lifecycle import AddressOf, logged_in
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings

INTERVAL_S = 2.0
STEADY = Behaviour(INTERVAL_S)
SLEEPER = Behaviour(INTERVAL_S, sleep_s=30)
FAULTY = Behaviour(INTERVAL_S, loss_percent=20, duplicate_percent=20)
FLEET = (*[STEADY] * 16, *[SLEEPER] * 3, FAULTY)
POLL_S = 0.1

log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event, health: Health, _: Metrics) -> None:
    """Run the fleet once the system is healthy. An error here ends the demo, not the system."""
    while not health.ok:
        if stop.is_set():
            return
        await asyncio.sleep(POLL_S)
    try:
        devices = build_fleet("demo", FLEET, booted_at=datetime.now(UTC))
        ids = [each.device_id for each in devices]
        async with _addresses(settings, ids, stop) as address_of:
            fleet = Fleet(address_of, devices, payload_bytes_max=settings.max_payload_bytes)
            await fleet.run(stop, drain_s=0)  # The ingestor stops too, so no receipt would come.
    except Exception:
        log.exception("The demo devices stopped; everything else keeps running.")


@asynccontextmanager
async def _addresses(
    settings: Settings, device_ids: Sequence[str], stop: asyncio.Event
) -> AsyncIterator[AddressOf]:
    if settings.authenticated:
        logins = DatabaseLogins(settings.dsn, f"{settings.instance} demo")
        async with logged_in(logins, settings.mqtt, device_ids, stop) as address_of:
            yield address_of
        return
    # Our own password would make the devices sessions of ours.
    address = replace(settings.mqtt, password=None) if settings.mqtt.embedded else settings.mqtt
    yield lambda _: address
