"""What the commands on credentials show, as text or as JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from cli.output import print_json
from runtime.settings import Settings
from schema.access.credentials import ListedCredential
from schema.instants import rfc3339

LISTED_MAX = 1_000_000
TABLE_WIDTH_MAX = 1000


def show_once(settings: Settings, fields: dict[str, Any], *, as_json: bool) -> None:
    """The fields of a new credential; its secret is not shown anywhere else."""
    if as_json:
        print_json(fields)
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name:{width}}  {shown}")
    if "secret" in fields:
        typer.echo("The secret is shown here and never again.")
    say_if_off(settings)


def show_list(found: Sequence[ListedCredential], *, as_json: bool) -> None:
    if as_json:
        print_json([_fields(each) for each in found])
        return
    table = Table(box=None)
    for heading in ("name", "kind", "scopes", "created", "last used over HTTP"):
        table.add_column(heading, no_wrap=True, overflow="ignore")
    for each in found:
        scopes = ", ".join(each.scopes)
        used = "never" if each.last_used_at is None else _second(each.last_used_at)
        table.add_row(each.name, each.kind, scopes, _second(each.created_at), used)
    # Whole names and times, on the narrowest terminal and in a pipe.
    Console(width=TABLE_WIDTH_MAX, soft_wrap=True).print(table)


def show_revoked(name: str, kinds: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "revoked": list(kinds)})
    else:
        typer.echo(f"Revoked: {' and '.join(kinds)} of {name}.")


def say_if_off(settings: Settings) -> None:
    if not settings.authenticated:
        typer.echo(
            "The settings of this command leave authentication off. Nobody is asked for a credential before"
            " Voltwire runs with AUTH=on; docs/security.md explains it."
        )


def _fields(listed: ListedCredential) -> dict[str, Any]:
    return {
        "name": listed.name,
        "kind": str(listed.kind),
        "scopes": [str(scope) for scope in listed.scopes],
        "created_at": rfc3339(listed.created_at),
        "last_used_at": _time(listed.last_used_at),
    }


def _second(at: datetime) -> str:
    return rfc3339(at.replace(microsecond=0))


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
