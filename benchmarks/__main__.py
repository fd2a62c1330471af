"""Every benchmark with its table: python -m benchmarks [name …]; benchmarks/README.md explains each.

Without names it runs all except growth and settings, which fill databases first, and workers, which needs
more than two cores.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import growth, ingest, latency, memory, posts, queries, server_settings, workers
from benchmarks.report import Options, Row, about, table

BENCHMARKS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "ingest": ingest.run,
    "latency": latency.run,
    "http": posts.run,
    "queries": queries.run,
    "workers": workers.run,
    "growth": growth.run,
    "memory": memory.run,
    "settings": server_settings.run,
}
ONLY_BY_NAME = {"growth", "settings", "workers"}
BY_DEFAULT = tuple(name for name in BENCHMARKS if name not in ONLY_BY_NAME)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--scale", type=float, default=1.0, help="1: full size")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument(
        "--stored",
        type=int,
        default=1_000_000,
        help="growth, settings: events stored before the run (1000000)",
    )
    parser.add_argument(
        "--outage", type=float, default=20, help="memory: seconds without PostgreSQL (20)"
    )
    parser.add_argument(
        "--hourly",
        type=int,
        default=100,
        help="queries: devices that report every hour of the year (100; the whole fleet: 999)",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        help="queries: another checkout, whose API answers the same queries alternately",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark: {', '.join(sorted(unknown))}")
    options = Options(
        arguments.scale, arguments.stored, arguments.outage, arguments.hourly, arguments.beside
    )
    facts = about()
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    results = {
        name: table(name, BENCHMARKS[name](options)) for name in arguments.names or BY_DEFAULT
    }
    for name in sorted(ONLY_BY_NAME - results.keys()):
        print(f"\n{name} runs only when named: python -m benchmarks {name}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"about": facts, **results}, indent=1))


if __name__ == "__main__":
    main()
