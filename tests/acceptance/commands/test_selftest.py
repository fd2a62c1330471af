"""`voltwire selftest`: it passes on a system that works and finds the errors of one that does not."""

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.acceptance.conftest import base_url, running_up, up_settings
from tests.support.brokers.mosquitto import mosquitto
from tests.support.http import plain_http
from tests.support.processes.command_run import CommandRun
from tests.support.processes.services import ForkedProcess, Process, free_port, temporary_folder

ROW = re.compile(r"^ (\w+) +(\d+)  ", re.MULTILINE)
FAULTS = ("rejected", "unanswered", "recovered", "lost", "duplicated", "unexpected")
END_S_MAX, UNTIL_S_MAX = 90, 60
SOON_S_MAX = 45  # Without its own limits it would wait for all of its events.

LOSE = """
create function meddle() returns trigger language plpgsql as 'begin return null; end';
create trigger meddle before insert on event for each row
    when (new.event_id in ('0000007', '0000008')) execute function meddle();
"""
DOUBLE = """
create function meddle() returns trigger language plpgsql as
    'begin insert into event select new.*; return null; end';
create trigger meddle after insert on event for each row
    when (new.event_id in ('0000007', '0000008') and pg_trigger_depth() = 0)
    execute function meddle();
"""
ALTER = """
create function meddle() returns trigger language plpgsql as
    'begin new.metrics = ''{"selftest": 0}''; return new; end';
create trigger meddle before insert on event for each row
    when (new.event_id in ('0000007', '0000008')) execute function meddle();
"""


class Run(CommandRun):
    """A `voltwire selftest`."""

    def __init__(self, settings: dict[str, str], *arguments: str) -> None:
        super().__init__(("selftest", *arguments), settings, ROW)


def selftest(settings: dict[str, str], *arguments: str) -> tuple[int, dict[str, int], str]:
    with Run(settings, *arguments) as run:
        return run.end(END_S_MAX)


def assert_clean(ended: tuple[int, dict[str, int], str], events: int) -> None:
    code, counts, said = ended
    assert code == 0, said
    assert counts["attempted"] == counts["acknowledged"] == events
    assert [counts[name] for name in FAULTS] == [0] * len(FAULTS), said
    assert counts["recognised"] >= counts["repeated"] > 0


def devices(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = plain_http.get(f"{url}/v1/devices?limit=1000&q=selftest").json()
    return found


def retained(port: int, topic_filter: str) -> str:
    return subprocess.run(
        ["mosquitto_sub", "-p", str(port), "-t", topic_filter, "-W", "1", "-v", "--retained-only"],
        capture_output=True, text=True, timeout=30, check=False,
    ).stdout  # fmt: skip


def test_a_system_that_works_passes_and_keeps_nothing_of_it(up: Process) -> None:
    ended = selftest(up.settings, "--events", "200", "--devices", "3")
    assert_clean(ended, 400)
    assert "publish to receipt" in ended[2]
    assert devices(base_url(up)) == []
    again = selftest(up.settings, "--events", "1", "--devices", "1", "--url", base_url(up))
    assert_clean(again, 2)
    found = plain_http.get(f"{base_url(up)}/v1/search?tag=selftest").json()
    assert (found, devices(base_url(up))) == ([], [])


def test_with_mosquitto_nothing_of_it_stays_on_the_broker(dsn: str) -> None:
    with mosquitto() as broker:
        mqtt_url = f"mqtt://127.0.0.1:{broker.port}"
        with running_up(DATABASE_URL=dsn, MQTT_URL=mqtt_url) as up:
            assert_clean(selftest(up.settings), 1000)
        assert not retained(broker.port, "devices/#")
        broker.stop()
        assert b"selftest-" not in without_presence(broker.data / "mosquitto.db")


def without_presence(file: Path) -> bytes:
    """What the broker stores, without the presence messages that we publish about the devices."""
    return re.sub(
        rb"presence/selftest-[\w-]+|\"device_id\":\"selftest-[\w-]+\"", b"", file.read_bytes()
    )


@contextmanager
def meddled(dsn: str, meddling: str) -> Iterator[None]:
    asyncio.run(execute(dsn, meddling))
    try:
        yield
    finally:
        asyncio.run(execute(dsn, "drop function meddle cascade"))


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("meddling", "column"), [(LOSE, "lost"), (DOUBLE, "duplicated"), (ALTER, "unexpected")]
)
def test_a_database_that_meddles_with_two_events_is_found_out(
    up: Process, meddling: str, column: str
) -> None:
    with meddled(up.settings["DATABASE_URL"], meddling):
        code, counts, said = selftest(up.settings, "--events", "50", "--timeout", "4")
    assert code == 1, said
    assert [counts[name] for name in FAULTS if name != column] == [0] * (len(FAULTS) - 1), said
    assert (counts["acknowledged"], counts[column]) == (100, 2)
    assert "event 0000007 of selftest-" in said
    left = devices(base_url(up))
    assert {device["state"] for device in left} == {"never_seen"}  # Their events are the evidence.
    with plain_http.Client(base_url=f"{base_url(up)}/v1/devices") as api:
        for device in left:
            assert api.get(f"{device['device_id']}/events?limit=1").json()
            api.delete(f"{device['device_id']}?events=true")


@pytest.mark.chaos
def test_a_restart_in_the_middle_loses_nothing(data_folder: Path) -> None:
    with (
        running_up(data=data_folder) as up,
        Run(up.settings, "--events", "8000", "--timeout", "80") as run,
    ):
        deadline = time.monotonic() + UNTIL_S_MAX
        while not devices(base_url(up)):
            assert time.monotonic() < deadline
        up.kill()
        up.start()
        up.wait_until_ok(f"{base_url(up)}/health")
        ended = run.end(END_S_MAX)
    assert_clean(ended, 16_000)
    assert ended[1]["resent"] > 0


async def test_without_an_ingestor_mqtt_is_unanswered_and_the_sentence_names_it(dsn: str) -> None:
    settings = up_settings() | {"DATABASE_URL": dsn}
    with (
        temporary_folder() as folder,
        ForkedProcess(folder, "broker", settings=settings),
        ForkedProcess(folder, "api", settings=settings) as api,
    ):
        api.wait_until_ok(f"{base_url(api)}/health")
        code, counts, said = selftest(settings, "--events", "50", "--timeout", "2")
    assert code == 1, said
    assert counts["acknowledged"] + counts["unanswered"] == 100
    assert 0 < counts["unanswered"] <= 50
    assert (counts["lost"], counts["duplicated"], counts["unexpected"]) == (0, 0, 0)
    assert "voltwire ingest" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("HTTP_PORT", "name another address with --url"),
        ("MQTT_PORT", "name another one in MQTT_URL"),
    ],
)
def test_where_nothing_listens_one_sentence_says_so_soon(
    up: Process, missing: str, sentence: str
) -> None:
    began = time.monotonic()
    code, counts, said = selftest(up.settings | {missing: str(free_port())})
    assert (code, counts) == (1, {}), said
    assert time.monotonic() - began < SOON_S_MAX
    assert sentence in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_system_that_cannot_do_its_job_is_not_tested() -> None:
    nowhere = {"DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none"}
    settings = up_settings() | nowhere
    with temporary_folder() as folder, ForkedProcess(folder, "api", settings=settings) as api:
        deadline = time.monotonic() + UNTIL_S_MAX
        while True:
            try:
                plain_http.get(f"{base_url(api)}/live")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        code, _, said = selftest(settings)
    assert code == 1, said
    assert "reports that it is unhealthy (database:" in said.splitlines()[-1]


def test_an_interrupted_one_proves_nothing(up: Process) -> None:
    with Run(up.settings, "--events", "100000", "--devices", "2") as run:
        deadline = time.monotonic() + UNTIL_S_MAX
        while not devices(base_url(up)):
            assert time.monotonic() < deadline
        run.process.terminate()
        began = time.monotonic()
        code, counts, said = run.end(END_S_MAX)
    assert time.monotonic() - began < SOON_S_MAX
    assert (code, counts) == (1, {}), said
    assert said.splitlines()[-1].startswith("The selftest was interrupted")
    assert devices(base_url(up)) == []


@pytest.mark.parametrize(
    "misuse",
    [("--events", "0"), ("--devices", "101"), ("--timeout", "0"), ("--url", "127.0.0.1:8000")],
)
def test_options_that_mean_nothing_are_misuse(misuse: tuple[str, str]) -> None:
    refused = CliRunner().invoke(app, ["selftest", *misuse])
    assert (refused.exit_code, misuse[0] in refused.output) == (2, True), refused.output
