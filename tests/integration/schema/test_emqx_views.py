"""The views for EMQX, as its authenticator and authorizer query them. EMQX itself is not run."""

import hashlib

import pytest

from schema.access.audit import COMMAND
from schema.access.credentials import Scope, add_certificate, create, revoke, rotate
from schema.access.secrets import CredentialKind
from schema.database import Connection

# The queries of docs/security.md, with $1 for ${username} and $2 for ${clientid}.
AUTHENTICATE = (
    "select password_hash, salt, is_superuser from mqtt_user where username = $1 and client_id = $2"
)
AUTHORIZE = "select permission, action, topic from mqtt_acl where username = $1"


async def logs_in(
    db: Connection, username: str, secret: str | None, client_id: str | None = None
) -> bool:
    """What EMQX does with pbkdf2, mac_fun sha512, 1 iteration, dk_length 64: it takes the first row."""
    row = await db.fetchrow(AUTHENTICATE, username, client_id or username)
    if row is None or secret is None:
        return False
    assert row["is_superuser"] is False
    salt = row["salt"].encode()
    expected = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, 1, 64).hex()
    return bool(row["password_hash"] == expected)


async def allowed(db: Connection, username: str) -> set[tuple[str, str]]:
    rows = await db.fetch(AUTHORIZE, username)
    assert {row["permission"] for row in rows} <= {"allow"}
    assert len(set(rows)) == len(rows)
    return {(row["action"], row["topic"]) for row in rows}


def device_rights(device_id: str) -> set[tuple[str, str]]:
    own = f"devices/{device_id}"
    return {
        *(("publish", f"{own}/{kind}") for kind in ("telemetry", "status", "heartbeat")),
        *(("subscribe", f"{own}/{name}") for name in ("receipts", "receipts/#")),
    }


async def test_a_device_logs_in_under_its_own_client_id_and_may_be_itself(db: Connection) -> None:
    secret = await create(db, COMMAND, CredentialKind.DEVICE, "a:b")
    assert await logs_in(db, "a:b", secret)
    assert not await logs_in(db, "a:b", "guessed")
    assert not await logs_in(db, "a:b", secret, client_id="other")
    assert not await logs_in(db, "other", secret)
    assert await allowed(db, "a:b") == device_rights("a:b")
    assert await allowed(db, "other") == set()
    await revoke(db, COMMAND, ["a:b"])
    assert not await logs_in(db, "a:b", secret)
    assert await allowed(db, "a:b") == set()


async def test_a_certificate_gives_rights_and_no_login(db: Connection) -> None:
    await add_certificate(db, COMMAND, "d1")
    assert await db.fetch("select from mqtt_user") == []
    assert await allowed(db, "d1") == device_rights("d1")
    await create(db, COMMAND, CredentialKind.DEVICE, "d1")
    assert await allowed(db, "d1") == device_rights("d1")


@pytest.mark.parametrize(
    "scopes", [["ingest"], ["read"], ["ingest", "read"], ["admin"], ["metrics"]]
)
async def test_a_key_has_the_rights_of_its_scopes(db: Connection, scopes: list[str]) -> None:
    secret = await create(db, COMMAND, CredentialKind.KEY, "k", [Scope(each) for each in scopes])
    sends = {("publish", f"devices/+/{kind}") for kind in ("telemetry", "status", "heartbeat")}
    reads = {("subscribe", "alerts/#"), ("subscribe", "presence/#")}
    expected = (sends if "ingest" in scopes else set()) | (reads if "read" in scopes else set())
    assert await logs_in(db, "_key.k", secret) is bool(expected)
    assert await allowed(db, "_key.k") == expected
    assert await allowed(db, "k") == set()


async def test_a_rotated_secret_counts_when_the_overlap_ends(db: Connection) -> None:
    old = await create(db, COMMAND, CredentialKind.DEVICE, "d1")
    new = await rotate(db, COMMAND, CredentialKind.DEVICE, "d1", overlap_s=3600)
    assert await logs_in(db, "d1", old)
    assert not await logs_in(db, "d1", new)
    await db.execute("update credential set valid_until = now() where valid_until is not null")
    assert await logs_in(db, "d1", new)
    assert not await logs_in(db, "d1", old)


async def test_a_role_needs_nothing_but_the_views(db: Connection) -> None:
    await create(db, COMMAND, CredentialKind.DEVICE, "d1")
    await db.execute("create role emqx_test; grant select on mqtt_user, mqtt_acl to emqx_test")
    try:
        await db.execute("set role emqx_test")
        assert len(await allowed(db, "d1")) == 5
        with pytest.raises(Exception, match="permission denied"):
            await db.fetch("select from credential")
    finally:
        await db.execute("reset role; drop owned by emqx_test; drop role emqx_test")


async def test_a_login_is_found_by_an_index_among_many(db: Connection) -> None:
    await db.execute(
        """insert into credential (kind, name, digest, broker_salt, broker_hash)
           select 'device', 'd' || n, sha256(n::text::bytea), 'salt', 'hash'
           from generate_series(1, 20000) as n"""
    )
    await db.execute("analyze credential")
    for query, arguments in ((AUTHENTICATE, ("d77", "d77")), (AUTHORIZE, ("d77",))):
        plan = "\n".join(row[0] for row in await db.fetch(f"explain {query}", *arguments))
        assert "credential_name" in plan
        assert "Seq Scan on credential" not in plan
