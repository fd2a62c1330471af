"""The product as a user starts it: `voltwire up` on free ports in a folder of its own."""

from collections.abc import Iterator

import pytest

from tests.support.services import Process, free_port, temporary_folder


def up_settings() -> dict[str, str]:
    return {"HTTP_PORT": str(free_port()), "MQTT_PORT": str(free_port()), "DATA_DIR": "data"}


def base_url(process: Process) -> str:
    return f"http://127.0.0.1:{process.settings['HTTP_PORT']}"


@pytest.fixture(scope="module")
def up() -> Iterator[Process]:
    """Everything embedded, shared by the tests of a file."""
    with temporary_folder() as folder, Process(folder, "up", settings=up_settings()) as process:
        process.wait_until_ok(f"{base_url(process)}/health")
        yield process
