"""Log lines: what a device sends can forge no line and command no terminal."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from runtime.logging import configure_logging
from runtime.settings import LogFormat, Settings

FORGED = "a\n2026-11-28 10:00:00 [info     ] All is well.\x1b[2J\r\u202e\u2028\x85"
RAW = ("\x1b", "\r", "\u202e", "\u2028", "\x85")


@pytest.fixture(autouse=True)
def _as_before_afterwards() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.reset_defaults()
    structlog.configure(**before)
    logging.basicConfig(level=logging.WARNING, force=True)


def lines(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> list[str]:
    """What our logger and that of a library write with hostile values."""
    configure_logging(Settings(log_format=log_format))
    structlog.get_logger().warning("A topic is bad.", topic=FORGED, tags=[FORGED])
    logging.getLogger("library").warning("Bad packet of %s", FORGED)
    return capsys.readouterr().err.rstrip("\n").split("\n")


@pytest.mark.parametrize("log_format", [LogFormat.TEXT, LogFormat.JSON])
def test_an_entry_is_one_line_without_control_characters(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    found = lines(capsys, log_format)
    assert len(found) == 2
    assert not [each for each in RAW if each in "".join(found)]
    assert all(r"\n2026-11-28" in line for line in found)


def test_json_keeps_the_value_itself(capsys: pytest.CaptureFixture[str]) -> None:
    ours, _ = lines(capsys, LogFormat.JSON)
    assert json.loads(ours)["topic"] == FORGED


@pytest.mark.parametrize("log_format", [LogFormat.TEXT, LogFormat.JSON])
def test_a_traceback_holds_no_control_characters(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    configure_logging(Settings(log_format=log_format))
    try:
        int(FORGED)
    except ValueError as error:
        error.add_note(FORGED)
        structlog.get_logger().exception("A job failed.")
    written = capsys.readouterr().err
    assert "ValueError" in written
    assert not [each for each in RAW if each in written]
    assert len(re.findall(r"(?m)^\S.*", written)) == 1  # All other lines are indented.
