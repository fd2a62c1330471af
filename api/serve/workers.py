"""Several processes that share one port: any of them reports the health and metrics of all.

Each process serves its own report on a Unix socket; the sockets lie in one folder.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from prometheus_client import REGISTRY, generate_latest

from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.version import VERSION

ANSWER_S_MAX = 2.0
CHECK = "workers"

Report = dict[str, Any]  # Members: `health`, a document, and `metrics`, a text.


@dataclass(frozen=True, slots=True)
class Worker:
    """Process `number`, counted from 1, of the `total` processes that one command started."""

    folder: Path
    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of str()."""
        numbers, _, folder = text.partition(":")
        number, _, total = numbers.partition("/")
        return cls(Path(folder), int(number), int(total))

    def __str__(self) -> str:
        return f"{self.number}/{self.total}:{self.folder}"

    @property
    def fault_file(self) -> Path:
        """The file in which the process leaves the reason why it cannot start."""
        return self.folder / f"{self.number}.fault"

    @property
    def has_begun(self) -> bool:
        """Whether its roles run, or those of its predecessor under this number."""
        return self._socket(self.number).exists()

    async def run(
        self, _settings: Settings, stop: asyncio.Event, health: Health, _metrics: Metrics
    ) -> None:
        """Send the report to each connection until `stop` is set."""
        health.report(CHECK, ok=True, detail="answers")

        async def send_report(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            report = {"health": health.document(VERSION), "metrics": generate_latest().decode()}
            writer.write(json.dumps(report).encode())
            with suppress(ConnectionError):
                await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(send_report, self._socket(self.number)):
            await stop.wait()

    async def reports(self) -> dict[int, Report | None]:
        """The reports of all processes by number; None for one that does not answer."""
        numbers = range(1, self.total + 1)
        return dict(zip(numbers, await asyncio.gather(*map(self._query, numbers)), strict=True))

    async def _query(self, number: int) -> Report | None:
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(ANSWER_S_MAX):
                reader, writer = await asyncio.open_unix_connection(self._socket(number))
                try:
                    report: Report = json.loads(await reader.read())
                    return report
                finally:
                    writer.close()
        return None

    def _socket(self, number: int) -> Path:
        return self.folder / str(number)


def own_metrics() -> bytes:
    return generate_latest(REGISTRY)


def merged_metrics(reports: Mapping[int, Report | None]) -> bytes:
    """Every sample with the label `worker`; a worker that does not answer shows as a failing check."""
    families: dict[str, list[str]] = {}
    for number, report in sorted(reports.items()):
        text = _no_answer() if report is None else report["metrics"]
        for name, lines in _families(text):
            heading = [line for line in lines if line.startswith("#")]
            samples = [_labelled(line, number) for line in lines if not line.startswith("#")]
            families.setdefault(name, heading).extend(samples)
    return "".join(f"{line}\n" for lines in families.values() for line in lines).encode()


def merged_health(reports: Mapping[int, Report | None], own: Health) -> Report:
    """Ok if every worker is; one that does not answer counts if `own` requires the check of the workers."""
    checks: dict[str, dict[str, str]] = {}
    answers = {number: report for number, report in reports.items() if report is not None}
    for number, report in sorted(answers.items()):
        for name, check in report["health"]["checks"].items():
            if checks.get(name, {"status": "ok"})["status"] == "ok":
                checks[name] = check if check["status"] == "ok" else _of_worker(number, check)
    silent = [str(number) for number, report in sorted(reports.items()) if report is None]
    if silent:
        detail = f"no response from worker {', '.join(silent)}"
        checks[CHECK] = {"status": "failing", "detail": detail}
    else:
        checks[CHECK] = {"status": "ok", "detail": f"{len(answers)} workers answer"}
    ok = all(report["health"]["status"] == "ok" for report in answers.values())
    ok = ok and not (silent and CHECK in own.required)
    status = "ok" if ok else "failing"
    return {"status": status, "version": VERSION, "checks": dict(sorted(checks.items()))}


def _of_worker(number: int, check: dict[str, str]) -> dict[str, str]:
    return {**check, "detail": f"worker {number}: {check['detail']}"}


def _no_answer() -> str:
    return f'# HELP voltwire_check \nvoltwire_check{{check="{CHECK}"}} 0.0\n'


def _families(text: str) -> Iterable[tuple[str, list[str]]]:
    """The lines of each metric family of the text format, which begins with HELP."""
    for block in text.split("# HELP ")[1:]:
        lines = f"# HELP {block}".splitlines()
        yield block.split(maxsplit=1)[0], lines


def _labelled(sample: str, number: int) -> str:
    """A sample is `name value` or `name{labels} value`; no value holds a brace."""
    head, brace, value = sample.rpartition("}")
    if brace:
        return f'{head},worker="{number}"}}{value}'
    name, _, value = sample.partition(" ")
    return f'{name}{{worker="{number}"}} {value}'
