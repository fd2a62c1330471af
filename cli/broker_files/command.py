"""`voltwire broker-files`: what Mosquitto needs to know who may log in, and what they may do."""

import asyncio
import grp
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from broker.mosquitto.files import NOTHING, BrokerFiles, ChangedFiles
from broker.mosquitto.listeners import Certificates, ListenAddress, Listeners
from cli.broker_files.keeper import CHECK, Keeper
from cli.database import database_errors, migrated_connection, running_dsn
from cli.output import AsJson, print_json
from cli.roles.runner import run_roles
from cli.settings import command_settings
from runtime.addresses import is_loopback
from runtime.broker_password import broker_password
from runtime.errors import ConfigurationError, StartError
from runtime.health import Health
from runtime.settings import Settings
from schema.access.broker_logins import BrokerTables, read_broker_tables
from schema.database import API_SESSION

READ_S_MAX = 30

log = structlog.get_logger()


def _listen_address(text: str) -> ListenAddress:
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _group(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise typer.BadParameter(f"there is no group {text}") from None


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from error
    if not words:
        raise typer.BadParameter("is empty")
    return text


address_option = partial(typer.Option, parser=_listen_address, metavar="[ADDRESS:]PORT")
command_option = partial(typer.Option, parser=_command, metavar="COMMAND")


def broker_files(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the files.")],
    *,
    listener: Annotated[
        ListenAddress, address_option("--listener", help="Where Mosquitto listens without TLS.")
    ] = "127.0.0.1:1883",  # type: ignore[assignment]  # typer parses it.
    certificates: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="server.crt and server.key open the listener with TLS; with clients.crt, the authority"
            " of your devices, there is one for client certificates, too; clients.crl lists revoked ones.",
        ),
    ] = None,
    tls_listener: Annotated[
        ListenAddress, address_option("--tls-listener", help="Where it listens with TLS.")
    ] = "8883",  # type: ignore[assignment]
    certificate_listener: Annotated[
        ListenAddress,
        address_option("--certificate-listener", help="Where devices show a client certificate."),
    ] = "8884",  # type: ignore[assignment]
    group: Annotated[
        int | None,
        typer.Option(
            parser=_group,
            metavar="GROUP",
            help="Who may read the files beside their owner: the group of Mosquitto's user.",
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep the files current until stopped.")
    ] = False,
    reload: Annotated[
        str | None,
        command_option("--reload", help="Run this after a change; it makes Mosquitto read them."),
    ] = None,
    restart: Annotated[
        str | None,
        command_option(
            "--restart",
            help="Run this instead if a listener changed, which needs a restart of Mosquitto.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the logins, access lists and listeners of Mosquitto from the tables.

    Its configuration includes DIR/conf.d. With authentication off that accepts everybody. Files are
    replaced as a whole, and only if they changed. COMMAND is run without a shell.
    """
    settings = command_settings()
    _require_usable(settings, listener)
    found = None if certificates is None else Certificates(certificates.resolve())
    listeners = Listeners(listener, tls_listener, certificate_listener, found)
    if settings.authenticated:
        _warn(settings, found)
    keeper = Keeper(
        BrokerFiles(folder.resolve(), listeners, group, settings.ha_discovery),
        dsn=running_dsn(settings) if settings.authenticated else "",
        password=broker_password(settings) if settings.authenticated else None,
        reload=reload,
        restart=restart,
    )
    if watch:
        from api.run import run_status  # noqa: PLC0415  # Without --watch, it starts faster.

        run_roles(settings, Health((CHECK,)), keeper.run, run_status)
    else:
        _write_once(settings, keeper, as_json=as_json)


def _require_usable(settings: Settings, listener: ListenAddress) -> None:
    """Raises ConfigurationError."""
    if (
        settings.authenticated
        or settings.trusted_network
        or (listener.host is not None and is_loopback(listener.host))
    ):
        return
    raise ConfigurationError(
        f"Authentication is off, and the {listener} accepts everybody who reaches it: set AUTH=on, let"
        " Mosquitto listen on 127.0.0.1, or set TRUSTED_NETWORK=true if everyone who can reach it may write."
    )


def _warn(settings: Settings, certificates: Certificates | None) -> None:
    if settings.mqtt_url is not None and settings.mqtt.username is not None:
        log.warning(
            "MQTT_URL names a user. If it is the URL of this broker, leave the user out, as in"
            " mqtt://:PASSWORD@host:1883: each session of Voltwire logs in under its own client id.",
            user=settings.mqtt.username,
        )
    if not is_loopback(settings.publish_host) and not (certificates and certificates.has_server):
        log.warning(
            "Without TLS the secrets of devices cross the network in clear text: add certificates.",
            published_on=settings.publish_host,
        )


def _write_once(settings: Settings, keeper: Keeper, *, as_json: bool) -> None:
    async def write() -> ChangedFiles:
        tables = await _read(settings, keeper.dsn) if settings.authenticated else None
        return keeper.write(settings.instance, tables)

    with database_errors("read"):
        written = asyncio.run(write())
    trouble = asyncio.run(keeper.apply(written))
    if trouble is not None:
        raise StartError(f"The files are written, and the broker did not take them: {trouble}.")
    if as_json:
        print_json({"written": written != NOTHING})
        return
    typer.echo("The files are up to date." if written == NOTHING else "The files were written.")


async def _read(settings: Settings, dsn: str) -> BrokerTables:
    name = f"{settings.instance} broker-files"
    async with migrated_connection(dsn, name, API_SESSION, command_timeout_s=READ_S_MAX) as found:
        tables, _ = await read_broker_tables(found, settings.instance)
    return tables
