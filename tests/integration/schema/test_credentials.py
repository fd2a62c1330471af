"""Credentials in the tables: made, rotated, revoked, and seen by a process that follows them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from schema.access.audit import COMMAND
from schema.access.credentials import (
    Credential,
    Scope,
    add_certificate,
    create,
    list_in_force,
    revoke,
    rotate,
)
from schema.access.secrets import CredentialKind, digest
from schema.access.watch import follow_credentials
from schema.database import Connection

WITHIN_S = 60


async def test_a_name_has_one_secret_in_force(db: Connection) -> None:
    assert await create(db, COMMAND, CredentialKind.KEY, "grafana", [Scope.READ]) is not None
    assert await create(db, COMMAND, CredentialKind.KEY, "grafana", [Scope.ADMIN]) is None
    assert await create(db, COMMAND, CredentialKind.DEVICE, "grafana") is not None  # Another kind.
    [key] = await list_in_force(db, [CredentialKind.KEY])
    assert (key.name, key.scopes, key.last_used_at) == ("grafana", [Scope.READ], None)


async def test_only_hashes_are_kept_and_the_audit_has_no_secret(db: Connection) -> None:
    secret = await create(db, COMMAND, CredentialKind.DEVICE, "d1")
    assert secret is not None
    for table in ("credential", "audit"):
        assert secret not in str(await db.fetch(f"select row_to_json({table}) from {table}"))
    assert await db.fetchval("select digest from credential") == digest(secret.encode())


async def test_every_change_is_in_the_audit(db: Connection) -> None:
    await create(db, COMMAND, CredentialKind.KEY, "k", [Scope.READ])
    await rotate(db, COMMAND, CredentialKind.KEY, "k", 60)
    await add_certificate(db, COMMAND, "d1")
    await revoke(db, COMMAND, ["k", "d1"])
    rows = await db.fetch("select actor, action, target from audit order by audit_id")
    assert [tuple(row) for row in rows] == [
        ("command", "key.create", "k"),
        ("command", "key.rotate", "k"),
        ("command", "certificate.create", "d1"),
        ("command", "certificate.revoke", "d1"),
        ("command", "key.revoke", "k"),
    ]


async def test_a_name_without_a_secret_cannot_be_rotated(db: Connection) -> None:
    assert await rotate(db, COMMAND, CredentialKind.DEVICE, "d1") is None
    assert await revoke(db, COMMAND, ["d1"]) == []


async def test_a_second_rotation_ends_the_first_overlap(db: Connection) -> None:
    first = await create(db, COMMAND, CredentialKind.DEVICE, "d1")
    await rotate(db, COMMAND, CredentialKind.DEVICE, "d1", 60)
    await rotate(db, COMMAND, CredentialKind.DEVICE, "d1", 60)
    assert first is not None
    assert await db.fetchval("select count(*) from credential") == 2
    query = "select exists (select from credential where digest = $1)"
    assert not await db.fetchval(query, digest(first.encode()))


async def test_a_follower_sees_each_change_and_the_end_of_an_overlap(
    dsn: str, db: Connection
) -> None:
    async with aclosing(follow_credentials(dsn, "test")) as seen:
        assert await _until(seen, 0) == []
        await create(db, COMMAND, CredentialKind.KEY, "k", [Scope.READ, Scope.INGEST])
        [key] = await _until(seen, 1)
        assert (key.login, key.actor) == ("_key.k", "key:k")
        assert key.scopes == {Scope.READ, Scope.INGEST}
        await rotate(db, COMMAND, CredentialKind.KEY, "k", 0.3)
        both = await _until(seen, 2)
        assert {each.name for each in both} == {"k"}
        [new] = await _until(seen, 1)  # The overlap has ended without anybody's call.
        assert new.digest != key.digest
        await revoke(db, COMMAND, ["k"])
        assert await _until(seen, 0) == []


async def _until(
    seen: AsyncGenerator[Sequence[Credential], None], count: int
) -> Sequence[Credential]:
    async with asyncio.timeout(WITHIN_S):
        async for credentials in seen:
            if len(credentials) == count:
                return credentials
    raise AssertionError
