"""Keys, devices' secrets and sessions of browsers. A change is in force in this process when it returns."""

from collections.abc import Sequence

from api.auth.caller import caller
from api.auth.keys import Keys
from api.store.change import change, note
from api.store.database import Database
from runtime.client_ids import is_own_client_id
from runtime.errors import Conflict, InvalidRequest, NotAuthenticated, NotFound
from schema.access.credentials import (
    Credential,
    ListedCredential,
    ListedDeviceCredentials,
    Scope,
    add_certificate,
    create,
    is_last_admin_key,
    list_devices,
    list_in_force,
    revoke,
    revoke_device,
    rotate,
)
from schema.access.secrets import CredentialKind, digest
from schema.access.sessions import begin_session, end_session

READ_S_MAX = 10.0


class CredentialStore:
    """`keys` is None while authentication is off: then nothing is in force."""

    def __init__(self, database: Database, keys: Keys | None, instance: str) -> None:
        self._database, self._keys, self._instance = database, keys, instance

    async def keys(self, after: str, limit: int) -> list[ListedCredential]:
        """Keys by name, and one more than `limit` if there is another page."""
        async with self._database.connection(READ_S_MAX) as connection:
            return await list_in_force(connection, [CredentialKind.KEY], after, limit + 1)

    async def devices(self, after: str, limit: int) -> list[ListedDeviceCredentials]:
        """Devices that may log in, and one more than `limit` if there is another page."""
        async with self._database.connection(READ_S_MAX) as connection:
            return await list_devices(connection, after, limit + 1)

    async def add_key(self, name: str, scopes: Sequence[Scope]) -> str:
        """The secret of a new key. Raises Conflict."""
        async with change(self._database) as (connection, _):
            secret = await create(connection, caller().actor, CredentialKind.KEY, name, scopes)
            if secret is None:
                raise Conflict(
                    f"There is a key {name!r} already; delete it first, or use another name."
                )
        await self._until_held(secret)
        return secret

    async def delete_key(self, name: str) -> None:
        """Raises NotFound, and Conflict for the last admin key."""
        async with change(self._database) as (connection, _):
            if self._keys is not None and await is_last_admin_key(connection, name):
                raise Conflict(
                    f"{name!r} is the last admin key: create another one first, or run voltwire key revoke."
                )
            if not await revoke(connection, caller().actor, [name], CredentialKind.KEY):
                raise NotFound(f"There is no key {name!r}.")
        await self._until_gone(CredentialKind.KEY, name)

    async def add_secret(self, device_id: str) -> str:
        """The secret of a device that has none. Raises InvalidRequest, Conflict."""
        self._require_not_ours(device_id)
        async with change(self._database) as (connection, _):
            secret = await create(connection, caller().actor, CredentialKind.DEVICE, device_id)
            if secret is None:
                raise Conflict(
                    f"The device {device_id!r} has a secret already; rotate or delete it."
                )
        await self._until_held(secret)
        return secret

    async def accept_certificate(self, device_id: str) -> None:
        """Accept client certificates with this CN. Raises InvalidRequest, Conflict."""
        self._require_not_ours(device_id)
        async with change(self._database) as (connection, _):
            if not await add_certificate(connection, caller().actor, device_id):
                raise Conflict(f"Certificates of the device {device_id!r} are accepted already.")

    async def rotate_secret(self, device_id: str, overlap_s: float) -> str:
        """A new secret; the former one is valid for the overlap. Raises NotFound."""
        async with change(self._database) as (connection, _):
            secret = await rotate(
                connection, caller().actor, CredentialKind.DEVICE, device_id, overlap_s
            )
            if secret is None:
                raise NotFound(f"The device {device_id!r} has no secret.")
        await self._until_held(secret)
        return secret

    async def revoke_device(self, device_id: str) -> None:
        """Raises NotFound."""
        async with change(self._database) as (connection, _):
            if not await revoke_device(connection, caller().actor, device_id):
                raise NotFound(f"The device {device_id!r} has no credentials.")
        await self._until_gone(CredentialKind.DEVICE, device_id)

    async def begin_session(self, key: Credential) -> str:
        """The token of a session in place of a key. Raises NotAuthenticated if that was just revoked."""
        async with change(self._database) as (connection, _):
            token = await begin_session(connection, key.id)
            if token is None:
                raise NotAuthenticated("The key was revoked.")
            await note(connection, "session.begin", key.name)
        await self._until_held(token)
        return token

    async def end_session(self, token_digest: bytes) -> None:
        async with change(self._database) as (connection, _):
            await end_session(connection, token_digest)
            key = caller().credential
            await note(connection, "session.end", None if key is None else key.name)
        if self._keys is not None:
            keys = self._keys
            await keys.until(lambda: keys.find_session(token_digest) is None)

    def _require_not_ours(self, device_id: str) -> None:
        if is_own_client_id(self._instance, device_id):
            raise InvalidRequest(
                f"device_id: {device_id!r} is a client id of Voltwire itself; use another one."
            )

    async def _until_held(self, secret: str) -> None:
        if self._keys is not None:
            keys, hashed = self._keys, digest(secret.encode())
            await keys.until(lambda: keys.holds(hashed))

    async def _until_gone(self, kind: CredentialKind, name: str) -> None:
        if self._keys is not None:
            keys = self._keys
            await keys.until(lambda: not keys.holds_name(kind, name))
