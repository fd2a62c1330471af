"""A transaction on the credentials, wherever the database is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cli.database import database_errors, database_of, migrated_connection
from cli.settings import command_settings
from runtime.settings import Settings
from runtime.signals import fail_on_signals
from schema.database import API_SESSION, Connection

COMMAND_S_MAX = 30

T = TypeVar("T")


def in_transaction(work: Callable[[Connection, Settings], Awaitable[T]]) -> tuple[Settings, T]:
    """The settings, and what `work` returns once that is committed. Raises StartError."""
    settings = command_settings()
    fail_on_signals("Interrupted: see with the command list whether it was done.")

    async def committed(dsn: str) -> T:
        name = f"{settings.instance} credentials"
        async with (
            migrated_connection(
                dsn, name, API_SESSION, command_timeout_s=COMMAND_S_MAX
            ) as connection,
            connection.transaction(),
        ):
            return await work(connection, settings)

    with database_errors("used"), database_of(settings) as database:
        return settings, asyncio.run(committed(database.dsn))
