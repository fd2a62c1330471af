"""A command of ours that runs on its own and ends with a table of counts."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Self

from tests.support.processes.forked import Forked
from tests.support.processes.services import ROOT, clean_environment


class CommandRun:
    """From its start to its table; `row` finds the names and counts in it."""

    def __init__(
        self, arguments: Sequence[str], settings: Mapping[str, str], row: re.Pattern[str]
    ) -> None:
        self._row = row
        self.process = Forked(
            arguments,
            env=clean_environment(settings), cwd=ROOT / "tests",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self, timeout_s: float) -> tuple[int, dict[str, int], str]:
        """The exit code, the table, and the whole output."""
        said, errors = self.process.communicate(timeout=timeout_s)
        counts = {name: int(count) for name, count in self._row.findall(said)}
        return self.process.returncode, counts, said + errors
