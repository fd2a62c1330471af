"""Run pg_dump or pg_restore: a line of progress while it works, its error as one sentence."""

import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from runtime.errors import StartError

POLL_S, LINE_S = 0.1, 10.0  # On a terminal, and between two lines elsewhere.
END_S_MAX = 5.0
ERROR_LINES_MAX = 3
STEP = re.compile(r"^pg_\w+: (.*\b(?:table|INDEX|CONSTRAINT|VIEW|FUNCTION)\b.*)$")
ERROR = re.compile(r"^pg_\w+: (?:error|detail|hint): (?:could not execute query: )?(.*)$")


class ProgramOutput:
    """What a program says on standard error with --verbose: its newest step, its first errors."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.step = "starting"
        self.errors: list[str] = []
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  # It was started with a pipe.
        for line in self._process.stderr:
            text = line.decode(errors="replace").strip()
            if (step := STEP.match(text)) and not ERROR.match(text):
                self.step = step[1]
            elif (error := ERROR.match(text)) and len(self.errors) < ERROR_LINES_MAX:
                self.errors.append(error[1])

    def finish(self) -> str:
        """The errors, when the program has ended; else how it ended."""
        self._reader.join(END_S_MAX)
        return "; ".join(self.errors) or f"exit code {self._process.returncode}"


def watch(
    process: "subprocess.Popen[bytes]", console: Console, amount: Callable[[], str], failed: str
) -> None:
    """Return when the program has succeeded. `amount` says how far it is.

    Raises StartError, which begins with `failed`. An exception of ours ends the program.
    """
    output = ProgramOutput(process)
    try:
        _show(process, console, lambda began: _line(began, amount(), output.step))
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if process.returncode != 0:
        name = Path(str(process.args[0])).name  # type: ignore[index]  # It is a list.
        raise StartError(f"{failed}: {name} says: {output.finish().rstrip('.')}.")


def _show(
    process: "subprocess.Popen[bytes]", console: Console, line: Callable[[float], Text]
) -> None:
    began = shown = time.monotonic()
    if not console.is_terminal:
        while process.poll() is None:
            time.sleep(POLL_S)
            if time.monotonic() - shown > LINE_S:
                shown = time.monotonic()
                console.print(line(began), soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while process.poll() is None:
            live.update(line(began), refresh=True)
            time.sleep(POLL_S)


def _line(began: float, amount: str, step: str) -> Text:
    shown = f"{time.monotonic() - began:.0f} s, {amount}: {step}"
    return Text(shown, no_wrap=True, overflow="ellipsis")
