"""A device connects again while its earlier connection is open: the will of that one takes nobody offline.

Some brokers publish the will of a connection that another one with its client id replaces always, others
only if one of the two sessions is clean. Both ways end with the device online.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from ingestor import run as ingest
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler.silence import sweep
from schema.database import Connection
from tests.support.brokers.mqtt import PASSWORD, RawClient, until

pytestmark = pytest.mark.slow

OFFLINE_AFTER_S = 300
WAIT_S_MAX = 60
# Is the session of the earlier connection clean, and that of the later? Does the device name its sessions?
CASES = list(product((True, False), (True, False), (True, False)))
ONLINE = "select count(*) from presence where state = 'online'"


@pytest.fixture
async def ingestor(dsn: str, port: int) -> AsyncIterator[None]:
    """It has received its first message."""
    settings = Settings(
        database_url=SecretStr(dsn), mqtt_url=SecretStr(f"mqtt://127.0.0.1:{port}")
    ).with_mqtt_password(PASSWORD)
    health, stop = Health(("broker",)), asyncio.Event()
    running = asyncio.create_task(ingest.run(settings, stop, health, Metrics()))
    await until(lambda: health.ok, WAIT_S_MAX)
    yield
    stop.set()
    await running


class Device:
    """One case: its client id is its device id, as brokers ask of devices."""

    def __init__(self, number: int, *, clean_first: bool, clean_then: bool, named: bool) -> None:
        self.name, self.named = f"d{number}", named
        self.clean = {"s1": clean_first, "s2": clean_then}

    async def connect(self, port: int, session: str) -> RawClient:
        """Connect with a will, and send the birth."""
        topic = f"devices/{self.name}/status"
        client = await RawClient.connect(
            port,
            self.name,
            clean=self.clean[session],
            will=(topic, self.status("offline", session)),
        )
        await client.publish(topic, self.status("online", session), retain=True)
        return client

    def status(self, state: str, session: str) -> bytes:
        return msgspec.json.encode({"state": state} | ({"session": session} if self.named else {}))


async def until_row(db: Connection, query: str, expected: Any) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while await db.fetchval(query) != expected:  # noqa: ASYNC110  # What another session does.
            await asyncio.sleep(0.05)


async def passes(db: Connection, seconds: float) -> None:
    """Let time pass for every device, in which we received, and sweep."""
    await db.execute(
        f"update presence set will_at = will_at - interval '{seconds} s',"
        f" last_seen = last_seen - interval '{seconds} s', check_at = '-infinity'"
    )
    await db.execute(f"update canary set since = since - interval '{seconds} s'")
    await sweep(db, OFFLINE_AFTER_S)


@pytest.mark.usefixtures("ingestor")
async def test_no_takeover_makes_a_device_offline_and_the_end_of_the_second_connection_does(
    db: Connection, port: int
) -> None:
    devices = [
        Device(number, clean_first=first, clean_then=then, named=named)
        for number, (first, then, named) in enumerate(CASES)
    ]
    earlier = [await device.connect(port, "s1") for device in devices]
    await until_row(db, ONLINE, len(CASES))
    later = [await device.connect(port, "s2") for device in devices]
    assert all([await client.closed() for client in earlier])
    # A broker publishes the will before it answers the new connection, so it is stored by then.
    for device, client in zip(devices, later, strict=True):
        await client.publish(f"devices/{device.name}/telemetry", b'{"metrics":{"x":1}}')
    await until_row(db, "select count(*) from event", len(CASES))
    await passes(db, 11)
    assert await db.fetchval(ONLINE) == len(CASES)
    for client in later:
        client.drop()
    await until_row(db, "select count(*) from presence where will_at is not null", len(CASES))
    await passes(db, 11)
    assert await db.fetchval(ONLINE) == 0
    assert await db.fetchval("select count(*) from presence where reason = 'will'") == len(CASES)
