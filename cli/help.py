"""The help of the commands: whole sentences, one example each, the exit codes."""

import re
from typing import Any

import typer
from typer.core import TyperGroup

from runtime.plain_words import plain

SENTENCE_CHARS_MAX = 500
EXIT_CODES = "Exit codes: 0 success, 1 failure, 2 misuse (wrong arguments or settings)."
VALUE_TYPE = re.compile(r"<(?:list\[)?([^\]>]+?)(?: range)?\]?>")
VALUES = {"int": "N", "float": "NUMBER", "str": "TEXT", "path": "FILE"}
EXAMPLES = {
    "up": "voltwire up --demo",
    "broker": "voltwire broker",
    "ingest": "voltwire ingest --workers 3",
    "api": "voltwire api --workers 2",
    "schedule": "voltwire schedule",
    "migrate": "voltwire migrate --app-role voltwire_app",
    "watch": "voltwire watch --device deviceA",
    "doctor": "voltwire doctor",
    "simulate": "voltwire simulate --devices 50 --loss 10 --duplicate 10 --duration 60 --forget",
    "broker-files": "voltwire broker-files /etc/mosquitto/voltwire --watch",
    "replay": "voltwire replay --reason out_of_range --since 2026-11-01T00:00:00Z",
    "retention": "voltwire retention --dry-run",
    "selftest": "voltwire selftest --events 5000 --timeout 120",
    "backup": "voltwire backup voltwire.dump",
    "restore": "voltwire restore voltwire.dump --replace",
    "sql": "voltwire sql -c 'select count(*) from event'",
    "device": "voltwire device list",
    "device add": "voltwire device add deviceA",
    "device list": "voltwire device list --json",
    "device rotate": "voltwire device rotate deviceA --overlap 3600",
    "device revoke": "voltwire device revoke deviceA",
    "device import": "voltwire device import devices.csv",
    "key": "voltwire key list",
    "key create": "voltwire key create dashboards --scope read",
    "key list": "voltwire key list --json",
    "key revoke": "voltwire key revoke dashboards",
}


class CommandGroup(TyperGroup):
    """Lists commands without cutting their descriptions off, and ends each help with an example."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Its wrong values are named in our words: those of the library are of Python."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _in_our_words(error.message)
            raise

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.epilog is None:
            parents = ctx.command_path.split()[1:]
            command.epilog = _epilog(" ".join([*parents, cmd_name]))
            for parameter in command.params:
                _name_values(parameter, ctx)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(self.summaries(ctx))

    def summaries(self, ctx: Any) -> list[tuple[str, str]]:
        """The name of each command with the first sentence of its help."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        return [
            (name, command.get_short_help_str(limit=SENTENCE_CHARS_MAX))
            for name, command in commands
        ]


def _in_our_words(message: str) -> str:
    own = message.removeprefix("Value error, ")
    ours = plain(own)
    return ours if ours == own else f"must be {ours}"


def _name_values(parameter: Any, ctx: Any) -> None:
    """Say in words what an option takes: the library shows the types of Python."""
    if parameter.param_type_name == "argument":
        parameter.display_type_rich = _nothing
    elif parameter.metavar is None and (shown := parameter.display_type(ctx)):
        found = VALUE_TYPE.fullmatch(shown)
        if found is not None:
            parameter.metavar = VALUES.get(found[1], found[1])


def _nothing(**_: object) -> None:
    """An argument is named by its metavar."""


def _epilog(name: str) -> str:
    """The mark keeps the lines of the example as they are."""
    example = EXAMPLES.get(name)
    return EXIT_CODES if example is None else f"\b\nExample:\n  {example}\n\n{EXIT_CODES}"
