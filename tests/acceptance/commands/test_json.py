"""`--json`: every command that prints a result prints it for programs, too, and nothing beside it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli.main import app
from tests.support.processes.services import COMMAND_S_MAX, ROOT, Process, clean_environment

# One process: each start of the program costs as much as all of these commands.
SCRIPT = """
import json, sys
from cli.main import app
for arguments in json.loads(sys.argv[1]):
    app(arguments, standalone_mode=False)
"""


def results(up: Process, *commands: list[str]) -> list[Any]:
    """What each prints; together that is their whole output."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        env=clean_environment(up.settings), cwd=ROOT / "tests", capture_output=True, text=True,
        timeout=COMMAND_S_MAX, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return list(documents(run.stdout))


def documents(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        found, end = decoder.raw_decode(text)
        yield found
        text = text[end:]


def test_the_commands_on_the_database_print_one_document_each(up: Process, tmp_path: Path) -> None:
    file = tmp_path / "x.dump"
    migrated, counted, replayed, planned, dropped, rows, none, devices, saved = results(
        up,
        ["migrate", "--json"],
        ["replay", "--dry-run", "--json"],
        ["replay", "--json"],
        ["retention", "--dry-run", "--json"],
        ["retention", "--json"],
        ["sql", "--json", "-c", "select 1 as one, array['a', null] as texts -- Not more."],
        ["sql", "--json", "-c", "select where false;"],
        ["device", "list", "--json"],
        ["backup", str(file), "--json"],
    )
    assert migrated == {"applied": [], "app_role": None}
    assert counted == {"letters": 0, "reasons": {}}
    assert replayed == {
        "letters": 0, "stored": 0, "duplicate": 0, "rejected": 0, "reasons": {}, "complete": True
    }  # fmt: skip
    assert planned["dead_letters"] == dropped["dead_letters"] == 0
    assert rows == [{"one": 1, "texts": ["a", None]}]
    assert none == devices == []
    assert saved["size_bytes"] == file.stat().st_size


def test_a_selftest_and_a_simulation_print_their_counts(up: Process) -> None:
    checked, simulated = results(
        up,
        ["selftest", "--events", "20", "--devices", "1", "--json"],
        ["simulate", "--devices", "1", "--interval", "0.1", "--duration", "0.5", "--json"],
    )
    assert (checked["attempted"], checked["lost"], checked["findings"]) == (40, 0, [])
    assert checked["fault"] is None
    assert simulated["sent"] == simulated["stored"] > 0
    assert simulated["reasons"] == {}


def test_what_cannot_be_json_is_misuse() -> None:
    for arguments in (("backup", "-", "--json"), ("sql", "--json"), ("sql", "--json", "-c", ";")):
        misuse = CliRunner().invoke(app, arguments)
        assert (misuse.exit_code, "--json" in misuse.output) == (2, True), arguments
