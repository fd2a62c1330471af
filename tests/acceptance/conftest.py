"""The product as a user starts it: `voltwire up` on free ports in a folder of its own."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import MAX_EVENT_AGE_DAYS
from tests.support.http import plain_http
from tests.support.processes.services import (
    ForkedProcess,
    Process,
    copy_folder,
    free_port,
    temporary_folder,
)


def up_settings() -> dict[str, str]:
    ports = {"HTTP_PORT": str(free_port()), "MQTT_PORT": str(free_port())}
    return ports | {"DATA_DIR": "data", "MAX_EVENT_AGE_DAYS": str(MAX_EVENT_AGE_DAYS)}


def base_url(process: Process) -> str:
    return f"http://127.0.0.1:{process.settings['HTTP_PORT']}"


@contextmanager
def running_up(*arguments: str, data: Path | None = None, **settings: str) -> Iterator[Process]:
    """Healthy; with a copy of a data folder, if one is given; embedded is what no setting names."""
    with temporary_folder() as folder:
        if data is not None:
            copy_folder(data, folder / "data")
        with ForkedProcess(folder, "up", *arguments, settings=up_settings() | settings) as process:
            process.wait_until_ok(f"{base_url(process)}/health")
            yield process


@pytest.fixture(scope="module")
def up(database: str) -> Iterator[Process]:
    """Shared by the tests of a file; only the broker is embedded: PostgreSQL runs already."""
    with running_up(DATABASE_URL=database) as process:
        yield process


@pytest.fixture(scope="module")
def embedded_up(data_folder: Path) -> Iterator[Process]:
    """Everything embedded, shared by the tests of a file."""
    with running_up(data=data_folder) as process:
        yield process


@pytest.fixture
def own_up(data_folder: Path) -> Iterator[Process]:
    """Everything embedded, for a test that stops or kills it."""
    with running_up(data=data_folder) as process:
        yield process


def stored(url: str, device_id: str) -> Counter[str]:
    """Every stored event id of a device, through all pages."""
    found: Counter[str] = Counter()
    page: str | None = f"{url}/v1/devices/{device_id}/events?limit=1000"
    while page:
        response = plain_http.get(page, timeout=30).raise_for_status()
        found.update(event["event_id"] for event in response.json())
        page = response.links.get("next", {}).get("url")
        page = page and f"{url}{page}"
    return found
