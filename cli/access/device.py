"""`voltwire device`: the credentials of devices."""

from typing import Annotated

import typer

from cli.access.import_devices import import_devices
from cli.access.shown import LISTED_MAX, show_list, show_once, show_revoked
from cli.access.transaction import in_transaction
from cli.help import CommandGroup
from cli.output import AsJson
from runtime.client_ids import is_own_client_id
from runtime.errors import StartError
from runtime.settings import Settings
from schema.access import credentials
from schema.access.audit import COMMAND
from schema.access.secrets import CredentialKind
from schema.database import Connection
from schema.registry import is_device_id

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Give devices their secrets, and take them back; register devices from a file.",
)
app.command("import")(import_devices)


def _checked(device_id: str) -> str:
    if not is_device_id(device_id):
        raise typer.BadParameter("a letter or digit, then up to 127 letters, digits or . _ : -")
    return device_id


DeviceId = Annotated[str, typer.Argument(metavar="DEVICE_ID", callback=_checked)]


@app.command()
def add(
    device_id: DeviceId,
    *,
    certificate: Annotated[
        bool,
        typer.Option("--certificate", help="Accept client certificates with this CN instead."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the secret of a device: its password at the broker, and its Bearer token over HTTP."""

    async def work(connection: Connection, settings: Settings) -> str | None:
        if is_own_client_id(settings.instance, device_id):
            raise StartError(
                f"{device_id} is a client id of Voltwire itself: choose another device_id."
            )
        if certificate:
            if await credentials.add_certificate(connection, COMMAND, device_id):
                return None
            raise StartError(f"Certificates of {device_id} are accepted already.")
        secret = await credentials.create(connection, COMMAND, CredentialKind.DEVICE, device_id)
        if secret is None:
            raise StartError(
                f"{device_id} has a secret already: run voltwire device rotate {device_id} for a new one."
            )
        return secret

    settings, secret = in_transaction(work)
    shown = {"device_id": device_id, "login": credentials.device_login(device_id)}
    show_once(settings, shown if secret is None else shown | {"secret": secret}, as_json=as_json)


@app.command("list")
def list_devices(*, as_json: AsJson = False) -> None:
    """List the devices that have a secret or whose certificates are accepted."""

    async def work(connection: Connection, _: Settings) -> list[credentials.ListedCredential]:
        kinds = [CredentialKind.DEVICE, CredentialKind.CERTIFICATE]
        return await credentials.list_in_force(connection, kinds, limit=LISTED_MAX)

    _, found = in_transaction(work)
    show_list(found, as_json=as_json)


@app.command()
def rotate(
    device_id: DeviceId,
    *,
    overlap: Annotated[
        float,
        typer.Option(
            min=0,
            max=credentials.OVERLAP_S_MAX,
            help="Seconds for which the former secret stays valid.",
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a new secret in place of the one in force."""

    async def work(connection: Connection, _: Settings) -> str:
        secret = await credentials.rotate(
            connection, COMMAND, CredentialKind.DEVICE, device_id, overlap
        )
        if secret is None:
            raise StartError(f"{device_id} has no secret: run voltwire device add {device_id}.")
        return secret

    settings, secret = in_transaction(work)
    login = credentials.device_login(device_id)
    overlap_s = int(overlap) if overlap.is_integer() else overlap
    shown = {"device_id": device_id, "login": login, "secret": secret, "overlap_s": overlap_s}
    show_once(settings, shown, as_json=as_json)
    if overlap and not as_json:
        typer.echo(
            f"Both secrets are valid for {overlap:g} s over HTTP and at the embedded broker. Mosquitto knows"
            " one at a time: there the new one counts when these seconds are over."
        )


@app.command()
def revoke(device_id: DeviceId, *, as_json: AsJson = False) -> None:
    """Revoke the secrets of a device, and its certificates. It is cut off within seconds."""

    async def work(connection: Connection, _: Settings) -> list[str]:
        found = [
            *await credentials.revoke(connection, COMMAND, [device_id], CredentialKind.DEVICE),
            *await credentials.revoke(connection, COMMAND, [device_id], CredentialKind.CERTIFICATE),
        ]
        revoked = [
            "certificate" if kind is CredentialKind.CERTIFICATE else "secret" for kind, _ in found
        ]
        if not revoked:
            raise StartError(f"{device_id} has no credentials.")
        return revoked

    _, revoked = in_transaction(work)
    show_revoked(device_id, revoked, as_json=as_json)
