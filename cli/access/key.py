"""`voltwire key`: keys for people and programs."""

import re
from typing import Annotated

import typer

from cli.access.shown import LISTED_MAX, show_list, show_once, show_revoked
from cli.access.transaction import in_transaction
from cli.help import CommandGroup
from cli.output import AsJson
from runtime.errors import StartError
from runtime.settings import Settings
from schema.access import credentials
from schema.access.audit import COMMAND
from schema.access.credentials import Scope
from schema.access.secrets import CredentialKind
from schema.database import Connection

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Make keys for people and programs, and revoke them.",
)


def _checked(name: str) -> str:
    if re.fullmatch(credentials.KEY_NAME, name) is None:
        raise typer.BadParameter("a letter or digit, then up to 63 letters, digits or . _ -")
    return name


KeyName = Annotated[str, typer.Argument(metavar="NAME", callback=_checked)]


@app.command()
def create(
    name: KeyName,
    *,
    scope: Annotated[
        list[Scope],
        typer.Option(
            help="What the key may do; repeatable. ingest: send events of any device. read: every query"
            " and stream. metrics: /metrics. admin: everything.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Make a key. It works straight on the database, so it makes the first one, too."""
    scopes = sorted(set(scope))

    async def work(connection: Connection, _: Settings) -> str:
        secret = await credentials.create(connection, COMMAND, CredentialKind.KEY, name, scopes)
        if secret is None:
            raise StartError(f"There is a key {name} already: revoke it, or use another name.")
        return secret

    settings, secret = in_transaction(work)
    shown = {"name": name, "scopes": [str(each) for each in scopes], "secret": secret}
    show_once(settings, shown, as_json=as_json)


@app.command("list")
def list_keys(*, as_json: AsJson = False) -> None:
    """List the keys, without their secrets."""

    async def work(connection: Connection, _: Settings) -> list[credentials.ListedCredential]:
        return await credentials.list_in_force(connection, [CredentialKind.KEY], limit=LISTED_MAX)

    _, found = in_transaction(work)
    show_list(found, as_json=as_json)


@app.command()
def revoke(name: KeyName, *, as_json: AsJson = False) -> None:
    """Revoke a key, with its sessions. It also revokes the last admin key; key create makes another."""

    async def work(connection: Connection, _: Settings) -> bool:
        last = await credentials.is_last_admin_key(connection, name)
        if not await credentials.revoke(connection, COMMAND, [name], CredentialKind.KEY):
            raise StartError(f"There is no key {name}.")
        return last

    _, last = in_transaction(work)
    show_revoked(name, ["key"], as_json=as_json)
    if last and not as_json:
        typer.echo(
            "No admin key is left: voltwire key create NAME --scope admin makes one.", err=True
        )
