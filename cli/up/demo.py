"""The fleet of `voltwire up --demo`: 20 devices, of which three sleep and one is faulty."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from broker.simulator.device import Behaviour, build_fleet
from broker.simulator.fleet import Fleet
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
        address = replace(settings.mqtt, password=None) if settings.mqtt.embedded else settings.mqtt
        fleet = Fleet(address, devices, payload_bytes_max=settings.max_payload_bytes)
        await fleet.run(stop, drain_s=0)  # The ingestor stops too, so no receipt would come.
    except Exception:
        log.exception("The demo devices stopped; everything else keeps running.")
