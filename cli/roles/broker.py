"""`voltwire broker`: the embedded broker, alone or as a child process of `voltwire up`."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from typing import Annotated

import typer

from broker.embedded import server
from broker.embedded.account_changes import follow_accounts, read_accounts
from broker.embedded.accounts import AccountChange, Accounts
from broker.embedded.rights import Access
from cli.roles.runner import run_roles
from cli.settings import command_settings
from runtime.broker_password import broker_password
from runtime.errors import StartError
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.migrate import until_migrated


def broker(
    *,
    parent_on_stdin: Annotated[
        bool, typer.Option("--parent-on-stdin", hidden=True, help="As voltwire up starts it.")
    ] = False,
) -> None:
    """Run the embedded broker alone. It speaks MQTT 3.1.1 and keeps everything in memory."""
    run_roles(command_settings(), Health(()), _run_for_parent if parent_on_stdin else _run)


async def _run(settings: Settings, stop: asyncio.Event, health: Health, _: Metrics) -> None:
    """Follow the credentials in the database, if authentication is on."""
    access = _access(settings, broker_password(settings))
    changes = _from_database(settings, settings.dsn, health) if settings.authenticated else None
    await server.run(settings.mqtt_host, settings.mqtt_port, stop, access, changes)


async def _run_for_parent(settings: Settings, stop: asyncio.Event, _: Health, __: Metrics) -> None:
    """Standard input is a socket: our password, then the accounts. Its end ends the broker."""
    with socket.fromfd(sys.stdin.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as parent:
        access = _access(settings, _read_line(parent))
        changes = _until_parent_ends(parent, stop)
        await server.run(settings.mqtt_host, settings.mqtt_port, stop, access, changes)


def _access(settings: Settings, password: str) -> Access:
    accounts = Accounts() if settings.authenticated else None
    return Access(settings.instance, password, accounts, ha_discovery=settings.ha_discovery)


def _read_line(parent: socket.socket) -> str:
    """Byte by byte: what follows is for `read_accounts`."""
    line = b""
    while not line.endswith(b"\n"):
        byte = parent.recv(1)
        if not byte:
            raise StartError("voltwire up ended before it gave the broker a password.")
        line += byte
    return line.decode().strip()


async def _from_database(
    settings: Settings, dsn: str, health: Health
) -> AsyncGenerator[AccountChange, None]:
    await until_migrated(dsn, health)
    async for change in follow_accounts(dsn, f"{settings.instance} broker"):
        yield change


async def _until_parent_ends(
    parent: socket.socket, stop: asyncio.Event
) -> AsyncGenerator[AccountChange, None]:
    async for change in read_accounts(parent):
        yield change
    stop.set()
