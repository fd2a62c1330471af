"""Every command and where it is. Its module is imported when the command is used, so each starts fast."""

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.main import get_group

from cli.help import CommandGroup


class Place(NamedTuple):
    """Where a command is, and the first sentence of its help, which the list of commands shows."""

    module: str
    name: str  # Of a function, or of an app that holds a group of commands.
    summary: str


# In the order of the help.
COMMANDS = {
    "up": Place(
        "cli.up.command",
        "up",
        "Run everything: PostgreSQL and broker (embedded unless configured), ingestor, API, scheduler.",
    ),
    "broker": Place(
        "cli.roles.broker",
        "broker",
        "Run the embedded broker alone.",
    ),
    "ingest": Place(
        "cli.roles.ingest",
        "ingest",
        "Receive events from the broker, store them, then acknowledge them.",
    ),
    "api": Place(
        "cli.roles.api",
        "api",
        "Serve the HTTP API.",
    ),
    "schedule": Place(
        "cli.roles.schedule",
        "schedule",
        "Detect silent devices, maintain partitions, publish alerts and presence over MQTT.",
    ),
    "migrate": Place(
        "cli.migrate",
        "migrate",
        "Migrate the database to this version.",
    ),
    "watch": Place(
        "cli.watch.command",
        "watch",
        "Show devices, their newest values, and alerts, live.",
    ),
    "doctor": Place(
        "cli.doctor.command",
        "doctor",
        "Check settings, ports, database, broker and API, and say how to mend what is wrong.",
    ),
    "simulate": Place(
        "cli.simulate",
        "simulate",
        "Simulate a fleet of battery devices that keep each event until its receipt arrives.",
    ),
    "broker-files": Place(
        "cli.broker_files.command",
        "broker_files",
        "Write the logins, access lists and listeners of Mosquitto from the tables.",
    ),
    "replay": Place(
        "cli.replay",
        "replay",
        "Send dead letters through the pipeline again, oldest first; by default all not replayed yet.",
    ),
    "retention": Place(
        "cli.retention",
        "retention",
        "Drop raw events older than RETENTION_DAYS and dead letters older than REJECTED_DAYS, now.",
    ),
    "selftest": Place(
        "cli.selftest.command",
        "selftest",
        "Send events to a running system over MQTT and HTTP, and compare them with what the API returns.",
    ),
    "backup": Place(
        "cli.backup.backup",
        "backup",
        "Write a complete, consistent backup of the database to a file, while everything runs.",
    ),
    "restore": Place(
        "cli.backup.restore",
        "restore",
        "Restore a backup, with all roles stopped, and migrate it to this version.",
    ),
    "sql": Place(
        "cli.sql",
        "sql",
        "Open psql on the database of DATABASE_URL, or on the embedded one in DATA_DIR.",
    ),
    "device": Place(
        "cli.access.device",
        "app",
        "Give devices their secrets, and take them back; register devices from a file.",
    ),
    "key": Place(
        "cli.access.key",
        "app",
        "Make keys for people and programs, and revoke them.",
    ),
}
CONTEXTS = {"sql": {"ignore_unknown_options": True}}  # They are psql's.


class Commands(CommandGroup):
    """The commands of `voltwire`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and self.commands.get(cmd_name) is None:
            self.commands[cmd_name] = _load(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command. To suggest one for a mistyped name, names without commands are enough."""
        names: dict[str, Any] = dict.fromkeys(COMMANDS)
        self.commands = names | dict(self.commands)
        return super().resolve_command(ctx, args)

    def summaries(self, ctx: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        return [(name, place.summary) for name, place in COMMANDS.items()]


def _load(name: str) -> Any:
    place = COMMANDS[name]
    found = getattr(import_module(place.module), place.name)
    app = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        app.command(name, context_settings=CONTEXTS.get(name))(found)
    return get_group(app).commands[name]
