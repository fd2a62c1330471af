"""The page in a real browser: one Chromium per test process, one `voltwire up` and one driver per file."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest
from paho.mqtt import publish
from playwright.sync_api import Browser, Page

from tests.acceptance.conftest import base_url
from tests.support.http import plain_http
from tests.support.page.browser import chromium, driven, visited
from tests.support.processes.services import Process


@pytest.fixture(scope="session")
def browser_address() -> Iterator[str]:
    with chromium() as address:
        yield address


@pytest.fixture(scope="module")
def browser(database: str, browser_address: str) -> Iterator[Browser]:
    """It ends before the file's database, which is dropped in an event loop."""
    with driven(browser_address) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, up: Process) -> Iterator[Page]:
    with visited(browser, base_url(up)) as page:
        yield page


@pytest.fixture
def send(up: Process) -> Callable[..., None]:
    """Events in one batch over HTTP, all stored."""

    def post(*events: dict[str, Any]) -> None:
        response = plain_http.post(f"{base_url(up)}/v1/events/batch", json=events, timeout=60)
        assert {item["status"] for item in response.raise_for_status().json()} == {"stored"}

    return post


def publish_event(up: Process, device_id: str, payload: str) -> None:
    """Over MQTT, with QoS 1."""
    publish.single(
        f"devices/{device_id}/telemetry", payload, qos=1,
        hostname="127.0.0.1", port=int(up.settings["MQTT_PORT"]), client_id=device_id,
    )  # fmt: skip


def execute(dsn: str, *statements: str) -> None:
    """On the database, aside from the event loop of the browser's driver."""

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()
