"""`voltwire watch` and `voltwire doctor` beside a running system, and without one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.watch.stream import LiveStream
from runtime.errors import StartError
from tests.acceptance.conftest import base_url, up_settings
from tests.support.http import plain_http
from tests.support.processes.forked import Forked
from tests.support.processes.services import ROOT, Process, clean_environment, free_port, voltwire

LINE_S_MAX, END_S_MAX = 60, 30


@contextmanager
def watching(up: Process, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    with Forked(
        ("watch", "--url", base_url(up), *arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT / "tests",
        env=clean_environment(up.settings),
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    """The time limit of the test ends a wait for a line that never comes."""
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)


def post(up: Process, device_id: str, event_id: str, temp: float) -> None:
    event = {"device_id": device_id, "event_id": event_id, "metrics": {"temp": temp}}
    plain_http.post(f"{base_url(up)}/v1/events", json=event).raise_for_status()


def findings(*arguments: str, **settings: str) -> tuple[int, dict[str, Any]]:
    run = voltwire("doctor", "--json", *arguments, **settings)
    assert "Traceback" not in run.stderr
    return run.returncode, {each["check"]: each for each in json.loads(run.stdout)}


def failing(found: dict[str, Any]) -> set[str]:
    return {name for name, each in found.items() if each["status"] == "failed"}


def test_events_and_alerts_of_a_device_are_lines_of_json_until_ctrl_c(embedded_up: Process) -> None:
    post(embedded_up, "seen", "e1", 1)
    rule = {"device_id": "seen", "metric": "temp", "op": ">", "threshold": 32, "name": "Hot"}
    plain_http.post(f"{base_url(embedded_up)}/v1/alerts", json=rule).raise_for_status()
    with watching(embedded_up, "--json", "--device", "seen") as process:
        assert json.loads(line_with(process, '"e1"'))["type"] == "event"
        post(embedded_up, "unseen", "e2", 40)
        post(embedded_up, "seen", "e3", 40)
        shown = json.loads(line_with(process, '"Hot"'))
        assert (shown["type"], shown["device_id"], shown["state"]) == ("alert", "seen", "firing")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=END_S_MAX)
        assert (process.returncode, errors) == (0, "")
        assert "unseen" not in output


def test_on_a_terminal_it_is_a_table_without_colours_if_nobody_wants_them(
    embedded_up: Process,
) -> None:
    post(embedded_up, "drawn", "e1", 21.5)
    terminal, its_end = os.openpty()
    screen = {"TERM": "xterm", "COLUMNS": "120", "LINES": "30", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "watch", "--url", base_url(embedded_up)],
        stdout=its_end, stderr=its_end, stdin=subprocess.DEVNULL, cwd=ROOT / "tests",
        env=clean_environment(embedded_up.settings | screen),
    ) as process:  # fmt: skip
        shown = b""
        while b"temp 21.5" not in shown:
            shown += os.read(terminal, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S_MAX) == 0
    os.close(terminal)
    os.close(its_end)
    assert b"drawn" in shown
    assert b"Ctrl-C ends it." in shown
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", shown)


def test_a_restarted_system_is_watched_again_and_a_reader_that_left_ends_it(
    embedded_up: Process,
) -> None:
    with watching(embedded_up) as process:
        post(embedded_up, "back", "e1", 1)
        line_with(process, " back temp 1")
        assert embedded_up.stop() == 0
        embedded_up.start()
        embedded_up.wait_until_ok(f"{base_url(embedded_up)}/health")
        post(embedded_up, "back", "e2", 2)
        line_with(process, " back temp 2")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        post(embedded_up, "back", "e3", 3)
        assert process.wait(END_S_MAX) == 0
        assert "trying again" in process.stderr.read()


def test_the_doctor_finds_nothing_wrong_with_a_system_that_works(embedded_up: Process) -> None:
    settings = embedded_up.settings | {"DATA_DIR": str(embedded_up.folder / "data")}
    deadline = time.monotonic() + LINE_S_MAX
    while failing((ended := findings(**settings))[1]):  # Until the first canary is back.
        assert time.monotonic() < deadline, ended
    code, found = ended
    assert code == 0
    assert {"settings", "database", "migrations", "canary", "scheduler", "broker", "API"} <= set(
        found
    )


def test_without_a_system_the_doctor_names_what_is_missing_and_how_to_mend_it() -> None:
    code, found = findings(**up_settings())
    assert (code, failing(found)) == (1, {"database", "broker", "API"})
    assert all("start voltwire up" in found[name]["remedy"] for name in failing(found))


@pytest.mark.parametrize("command", ["watch", "doctor"])
def test_misuse_is_named(command: str) -> None:
    misuse = CliRunner().invoke(app, [command, "--url", "127.0.0.1:8000"])
    assert (misuse.exit_code, "--url" in misuse.output) == (2, True)


def test_where_nothing_listens_watch_says_so_and_ends() -> None:
    run = voltwire("watch", "--url", f"http://127.0.0.1:{free_port()}")
    assert run.returncode == 1
    assert "does not respond (Connection refused): start voltwire up" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, "not here", "is not a Voltwire of this version"),
        (200, "<html>", "is not a Voltwire of this version"),
        (200, "{}", "is not a Voltwire of this version"),
        (503, "{}", "cannot answer now (it answers 503)"),
    ],
)
async def test_what_is_no_system_that_works_is_named(status: int, body: str, sentence: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text=body))
    async with httpx.AsyncClient(base_url="http://x", transport=transport) as client:
        with pytest.raises(StartError, match=re.escape(sentence)):
            await anext(LiveStream(client, ()).items())
