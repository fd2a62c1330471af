"""What `voltwire --help` says, and the completion that it offers."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.services import ROOT, clean_environment

PROGRAM = Path(sys.executable).parent / "voltwire"


def voltwire(*arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True,
        env=clean_environment({"COLUMNS": "80", **environment}), check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_command_is_described_by_a_whole_sentence() -> None:
    listed = voltwire("--help").partition("Commands:\n")[2]
    assert "..." not in listed
    described = re.split(r"^  (?=\w)", listed, flags=re.MULTILINE)[1:]
    assert len(described) > 10
    assert [text for text in described if not text.strip().endswith(".")] == []


def test_the_shell_completes_commands_and_options() -> None:
    assert "_VOLTWIRE_COMPLETE=complete_bash" in voltwire("--show-completion", "bash")
    ask = {"_VOLTWIRE_COMPLETE": "complete_bash"}
    assert voltwire(COMP_WORDS="voltwire ba", COMP_CWORD="1", **ask).split() == ["backup"]
    options = voltwire(COMP_WORDS="voltwire restore --", COMP_CWORD="2", **ask).split()
    assert "--replace" in options
