"""Logins straight in the database, for the demo of `voltwire up`."""

from collections.abc import Sequence

from cli.device_logins.lifecycle import DeviceLogin
from schema.access.audit import COMMAND
from schema.access.credentials import create, revoke, rotate
from schema.access.secrets import CredentialKind
from schema.database import Connection, connect


class DatabaseLogins:
    def __init__(self, dsn: str, name: str) -> None:
        self._dsn, self._name = dsn, name

    async def create(self, device_ids: Sequence[str]) -> dict[str, DeviceLogin]:
        """A device that has a secret, perhaps from a run that was killed, gets a new one."""
        connection = await connect(self._dsn, self._name)
        try:
            async with connection.transaction():
                secrets = {each: await _new_secret(connection, each) for each in device_ids}
        finally:
            connection.terminate()
        return {each: DeviceLogin(each, secret) for each, secret in secrets.items()}

    async def remove(self, device_ids: Sequence[str]) -> None:
        connection = await connect(self._dsn, self._name)
        try:
            async with connection.transaction():
                await revoke(connection, COMMAND, device_ids, CredentialKind.DEVICE)
        finally:
            connection.terminate()


async def _new_secret(connection: Connection, device_id: str) -> str:
    secret = await create(connection, COMMAND, CredentialKind.DEVICE, device_id)
    if secret is None:
        secret = await rotate(connection, COMMAND, CredentialKind.DEVICE, device_id)
    assert secret is not None  # noqa: S101  # There is one in force to rotate, or there was none.
    return secret
