"""What keeps a process up to date: valid credentials in, failed logins and times of use out."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from api.auth.authenticator import Authenticator
from api.auth.caller import STRANGER
from api.auth.failed_logins import FailedLogin, FailedLogins
from api.auth.keys import Keys
from schema.access.audit import Actor, record
from schema.access.credentials import save_last_used
from schema.access.watch import follow_credentials, follow_sessions
from schema.database import DATABASE_ERRORS, connect

USED_EVERY_S = 60.0
WRITE_EVERY_S = 0.5  # A failed login is written at once, those within this time after it together.
FIRST_KEY = "voltwire key create admin --scope admin"

Changed = Callable[[], Awaitable[None]]

log = structlog.get_logger()


async def nothing() -> None:
    """Do nothing: this process has no streams to end."""


async def follow(
    dsn: str, name: str, authenticator: Authenticator, changed: Changed = nothing
) -> None:
    """Run until cancelled; `changed` is called after each change."""
    keys = authenticator.keys
    async with asyncio.TaskGroup() as group:
        group.create_task(_credentials(dsn, name, keys, changed))
        group.create_task(_sessions(dsn, name, keys, changed))
        group.create_task(_failed_logins(dsn, name, authenticator.failed))
        group.create_task(_times_of_use(dsn, name, keys))


async def _credentials(dsn: str, name: str, keys: Keys, changed: Changed) -> None:
    async for credentials in follow_credentials(dsn, f"{name} credentials"):
        first = not keys.were_read
        await keys.replace(credentials)
        await changed()
        if first and not keys.any_admin:
            log.warning("There is no admin key yet.", make_one_with=FIRST_KEY)


async def _sessions(dsn: str, name: str, keys: Keys, changed: Changed) -> None:
    async for sessions in follow_sessions(dsn, f"{name} sessions"):
        await keys.replace_sessions(sessions)
        await changed()


async def _failed_logins(dsn: str, name: str, failed: FailedLogins) -> None:
    while True:
        await failed.arrived.wait()
        waiting = failed.take()
        try:
            await _write(dsn, name, waiting)
        except DATABASE_ERRORS as error:
            log.warning("Failed logins cannot be written to the audit yet.", error=repr(error))
            failed.put_back(waiting)
            failed.arrived.set()
        await asyncio.sleep(WRITE_EVERY_S)


async def _write(dsn: str, name: str, waiting: list[FailedLogin]) -> None:
    connection = await connect(dsn, f"{name} audit")
    try:
        async with connection.transaction():
            for each in waiting:
                details = {"unlisted": each.unlisted} if each.unlisted else {"route": each.route}
                await record(
                    connection, Actor(STRANGER, each.address), "login.failed", details=details
                )
    finally:
        connection.terminate()


async def _times_of_use(dsn: str, name: str, keys: Keys) -> None:
    """One statement a minute, however many requests there are."""
    while True:
        await asyncio.sleep(USED_EVERY_S)
        if used := keys.take_used():
            with suppress(*DATABASE_ERRORS):  # A time of use that is lost does no harm.
                await _save(dsn, name, used)


async def _save(dsn: str, name: str, used: list[int]) -> None:
    connection = await connect(dsn, f"{name} last use")
    try:
        await save_last_used(connection, used, datetime.now(UTC))
    finally:
        connection.terminate()
