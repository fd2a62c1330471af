"""Credentials of devices, keys and client certificates: made, rotated, revoked, and read by every process.

Each function that changes something runs in a transaction of its caller and writes a row of the audit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

from schema.access.audit import Actor, record
from schema.access.secrets import CredentialKind, broker_hash, digest, make_secret
from schema.database import Connection
from schema.queries import load_queries

KEY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
KEY_LOGIN_PREFIX = "_key."  # The login of a key at the broker begins so, and no device_id can.
OVERLAP_S_MAX = 30 * 86_400

KeyName = Annotated[str, StringConstraints(pattern=KEY_NAME)]

queries = load_queries("schema.access", "access.sql")


def device_login(device_id: str) -> str:
    """The user name of a device at the broker: in Mosquitto's file a colon would end it."""
    return device_id.replace(":", "%3A")


class Scope(StrEnum):
    INGEST = "ingest"
    READ = "read"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Credential:
    """A valid secret, or a certificate, which has no digest: what a caller may do who shows it."""

    id: int
    kind: CredentialKind
    name: str
    scopes: frozenset[Scope]
    digest: bytes | None

    @property
    def login(self) -> str:
        """The name at the broker."""
        return f"{KEY_LOGIN_PREFIX}{self.name}" if self.kind is CredentialKind.KEY else self.name

    @property
    def actor(self) -> str:
        """The name in the audit."""
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class ListedCredential:
    """What may be shown of a credential in force."""

    name: str
    kind: CredentialKind
    scopes: Sequence[Scope]
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedDeviceCredentials:
    """How a device may log in: by a secret, by certificates, or by both."""

    device_id: str
    secret: bool
    certificate: bool
    created_at: datetime
    last_used_at: datetime | None


async def create(
    connection: Connection,
    actor: Actor,
    kind: CredentialKind,
    name: str,
    scopes: Sequence[Scope] = (),
) -> str | None:
    """A new secret, which is shown once; None if one of this kind and name is in force."""
    secret = make_secret(kind)
    if not await _insert(connection, kind, name, scopes, secret):
        return None
    await record(connection, actor, f"{kind}.create", name, {"scopes": scopes} if scopes else None)
    return secret


async def add_certificate(connection: Connection, actor: Actor, name: str) -> bool:
    """Whether a client certificate with this CN is accepted from now on, and was not before."""
    kind = CredentialKind.CERTIFICATE
    added = await connection.fetchval(queries.insert_credential, kind, name, [], None, None, None)
    if added is not None:
        await record(connection, actor, f"{kind}.create", name)
    return added is not None


async def rotate(
    connection: Connection, actor: Actor, kind: CredentialKind, name: str, overlap_s: float = 0
) -> str | None:
    """A new secret in place of the one in force, which stays valid for the overlap; None if there is none."""
    row = await connection.fetchrow(queries.end_after_overlap, kind, name, overlap_s)
    if row is None:
        return None
    secret = make_secret(kind)
    await _insert(connection, kind, name, row["scopes"], secret)
    await record(connection, actor, f"{kind}.rotate", name, {"overlap_s": overlap_s})
    return secret


async def revoke(
    connection: Connection, actor: Actor, names: Sequence[str], kind: CredentialKind | None = None
) -> list[tuple[CredentialKind, str]]:
    """Delete every secret of these names, of one kind or of all; return what there was."""
    rows = await connection.fetch(queries.delete_credentials, kind, names)
    revoked = sorted({(CredentialKind(row["kind"]), row["name"]) for row in rows})
    for its_kind, name in revoked:
        await record(connection, actor, f"{its_kind}.revoke", name)
    return revoked


async def revoke_device(connection: Connection, actor: Actor, device_id: str) -> bool:
    """Delete the secrets and the certificate of a device; a key of the same name stays."""
    secrets = await revoke(connection, actor, [device_id], CredentialKind.DEVICE)
    certificate = await revoke(connection, actor, [device_id], CredentialKind.CERTIFICATE)
    return bool(secrets or certificate)


async def any_admin_key(connection: Connection) -> bool:
    return bool(await connection.fetchval(queries.any_admin))


async def is_last_admin_key(connection: Connection, name: str) -> bool:
    """Whether there is no other admin key. It stays true until the transaction of the caller ends."""
    rows = await connection.fetch(queries.lock_admin_keys)
    return [row["name"] for row in rows] == [name]


async def delete_ended(connection: Connection) -> None:
    """Delete secrets whose overlap is over, and sessions that have expired."""
    await connection.execute(queries.delete_ended)


async def save_last_used(connection: Connection, numbers: Sequence[int], at: datetime) -> None:
    await connection.execute(queries.save_last_used, numbers, [at] * len(numbers))


async def list_in_force(
    connection: Connection, kinds: Sequence[CredentialKind], after: str = "", limit: int = 1000
) -> list[ListedCredential]:
    """The credentials in force, by name, after the name `after`."""
    rows = await connection.fetch(queries.list_credentials, kinds, after, limit)
    return [
        ListedCredential(
            row["name"],
            CredentialKind(row["kind"]),
            [Scope(each) for each in row["scopes"]],
            row["created_at"],
            row["last_used_at"],
        )
        for row in rows
    ]


async def list_devices(
    connection: Connection, after: str, limit: int
) -> list[ListedDeviceCredentials]:
    """Devices that may log in, by name, after the name `after`."""
    rows = await connection.fetch(queries.list_devices, after, limit)
    return [ListedDeviceCredentials(**dict(row)) for row in rows]


async def _insert(
    connection: Connection, kind: CredentialKind, name: str, scopes: Sequence[str], secret: str
) -> bool:
    hashed = broker_hash(secret)
    return (
        await connection.fetchval(
            queries.insert_credential,
            kind,
            name,
            scopes,
            digest(secret.encode()),
            hashed.salt,
            hashed.hash,
        )
        is not None
    )
