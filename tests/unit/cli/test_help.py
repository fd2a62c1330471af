"""What `voltwire --help` says, and the completion that it offers."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.commands import COMMANDS
from cli.help import EXAMPLES, EXIT_CODES, SENTENCE_CHARS_MAX
from cli.main import app
from tests.support.processes.services import ROOT, clean_environment

ROW = re.compile(r"^\| `voltwire ([a-z -]+)` \| (.+) \| `(.+)` \|$", re.MULTILINE)
PROGRAM = Path(sys.executable).parent / "voltwire"


def voltwire(*arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True,
        env=clean_environment({"COLUMNS": "80", **environment}), check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def commands(group: Any, ctx: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every command but those that only hold others, with its name and context."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        inner = command.make_context(name, [], parent=ctx, resilient_parsing=True)
        if hasattr(command, "list_commands"):
            yield from commands(command, inner)
        else:
            yield inner.command_path.removeprefix("voltwire "), command, inner


def all_commands() -> dict[str, Any]:
    root = get_command(app)
    ctx: Any = root.make_context("voltwire", [], resilient_parsing=True)
    return {name: command for name, command, _ in commands(root, ctx)}


def test_the_document_lists_every_command_with_its_help_and_example() -> None:
    listed = ROW.findall((ROOT / "docs/commands.md").read_text("utf-8"))
    assert listed == [
        (name, command.get_short_help_str(limit=SENTENCE_CHARS_MAX), EXAMPLES[name])
        for name, command in all_commands().items()
    ]


def test_the_list_of_commands_shows_the_first_sentence_of_each_help() -> None:
    root = get_command(app)
    ctx: Any = root.make_context("voltwire", [], resilient_parsing=True)
    for name, place in COMMANDS.items():
        command: Any = root.get_command(ctx, name)  # type: ignore[attr-defined]
        assert command.get_short_help_str(limit=SENTENCE_CHARS_MAX) == place.summary, name


def test_a_command_imports_nothing_that_only_others_need() -> None:
    code = "import sys, cli.main; print(*(m for m in sys.modules if m.startswith('cli.')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) == {"cli.main", "cli.commands", "cli.help"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_help_ends_with_an_example_that_the_command_accepts_and_the_exit_codes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("devices.csv").touch()
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "120"}).output
    assert shown.endswith(f"  Example:\n    {EXAMPLES[name]}\n\n  {EXIT_CODES}\n")
    program, *arguments = shlex.split(EXAMPLES[name])
    assert program == "voltwire"
    if command := all_commands().get(name):
        command.make_context(name, arguments[len(name.split()) :]).close()


def test_no_help_shows_a_type_of_the_language_it_is_written_in() -> None:
    for name in all_commands():
        shown = CliRunner().invoke(app, [*name.split(), "--help"]).output
        assert not re.search(r"<(str|int|float|path|list|bool)\b", shown), name


def test_every_command_that_prints_a_result_can_print_it_as_json() -> None:
    roles = {"up", "broker", "ingest", "api", "schedule"}
    without = {
        name
        for name, command in all_commands().items()
        if "as_json" not in {each.name for each in command.params}
    }
    assert without == roles


def test_every_command_is_described_by_a_whole_sentence() -> None:
    listed = voltwire("--help").partition("Commands:\n")[2]
    assert "..." not in listed
    described = re.split(r"^  (?=\w)", listed, flags=re.MULTILINE)[1:]
    assert len(described) > 10
    assert [text for text in described if not text.strip().endswith(".")] == []


def test_the_shell_completes_commands_and_options() -> None:
    # --show-completion prints the same for the shell that it finds above itself, if there is one.
    assert "_VOLTWIRE_COMPLETE=complete_bash" in voltwire(_VOLTWIRE_COMPLETE="source_bash")
    ask = {"_VOLTWIRE_COMPLETE": "complete_bash"}
    assert voltwire(COMP_WORDS="voltwire ba", COMP_CWORD="1", **ask).split() == ["backup"]
    options = voltwire(COMP_WORDS="voltwire restore --", COMP_CWORD="2", **ask).split()
    assert "--replace" in options


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "--devices", "x"], "'--devices': must be an integer"),
        (["simulate", "--devices", "0"], "'--devices': must be greater than or equal to 1"),
        (["key", "create", "x", "--scope", "y"], "'--scope': 'y' is not one of 'ingest'"),
        (
            ["device", "rotate", "x", "--overlap", "-1"],
            "'--overlap': must be greater than or equal to 0",
        ),
    ],
)
def test_a_wrong_value_is_named_in_our_words(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert f"Invalid value for {says}" in result.output


def test_a_command_like_a_wrong_one_is_suggested() -> None:
    result = CliRunner().invoke(app, ["ingst"])
    assert result.exit_code == 2
    assert "No such command 'ingst'. Did you mean 'ingest'?" in result.output
