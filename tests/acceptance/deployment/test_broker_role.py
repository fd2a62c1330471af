"""`voltwire broker` beside separate roles: how it knows which sessions are ours."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.processes.services import Process, free_port, temporary_folder

LOG_S_MAX = 60


@pytest.mark.parametrize("in_url", [False, True])
def test_separate_roles_work_with_the_file_in_data_dir_or_the_password_in_mqtt_url(
    dsn: str,
    in_url: bool,  # noqa: FBT001
) -> None:
    port = str(free_port())
    url = {"MQTT_URL": f"mqtt://voltwire:s%2Fecret@127.0.0.1:{port}"} if in_url else {}
    shared = {"DATABASE_URL": dsn, "MQTT_PORT": port, "DATA_DIR": "data", **url}
    with temporary_folder() as folder, Process(folder, "broker", settings=shared) as broker:
        wait_for_log(broker, "The embedded broker is listening.")
        with ingestor(folder, shared) as ingest:
            # Healthy: its own canary came back through the broker.
            ingest.wait_until_ok(f"http://127.0.0.1:{ingest.settings['STATUS_PORT']}/health")
        stranger = {"DATABASE_URL": dsn, "MQTT_URL": f"mqtt://127.0.0.1:{port}"}
        with ingestor(folder, stranger) as ingest:
            wait_for_log(ingest, "The broker refused the connection.")


def test_with_authentication_on_the_broker_alone_asks_the_database(dsn: str) -> None:
    shared = {"MQTT_PORT": str(free_port()), "DATA_DIR": "data", "AUTH": "on"}
    with temporary_folder() as folder, Process(folder, "broker", settings=shared) as broker:
        assert broker.process.wait(LOG_S_MAX) == 2
        assert "DATABASE_URL" in broker.log.read_text()
    shared |= {"DATABASE_URL": dsn}
    with temporary_folder() as folder, Process(folder, "broker", settings=shared) as broker:
        wait_for_log(broker, "The embedded broker is listening.")
        with ingestor(folder, shared) as ingest:
            ingest.wait_until_ok(f"http://127.0.0.1:{ingest.settings['STATUS_PORT']}/live")
            wait_for_log(ingest, "Connected to the broker.")
        stranger = shared | {"MQTT_URL": f"mqtt://x:y@127.0.0.1:{shared['MQTT_PORT']}"}
        with ingestor(folder, stranger) as ingest:
            wait_for_log(ingest, "The broker refused the connection.")
            wait_for_log(broker, "A client was refused: its client id is one of Voltwire's own.")


def ingestor(folder: Path, settings: Mapping[str, str]) -> Process:
    return Process(folder, "ingest", settings={**settings, "STATUS_PORT": str(free_port())})


def wait_for_log(process: Process, sentence: str) -> None:
    deadline = time.monotonic() + LOG_S_MAX
    while sentence not in (log := process.log.read_text()):
        assert time.monotonic() < deadline, log
        time.sleep(0.1)
