"""The accounts of the embedded broker follow the tables, also through outages of database and parent."""

import asyncio
import socket
from collections.abc import AsyncIterator

import asyncpg
import pytest

from broker.embedded.account_changes import (
    CHANGE_ACCOUNTS_MAX,
    CONFIRMATION,
    accounts_of,
    changes,
    encode,
    follow_accounts,
    read_accounts,
)
from broker.embedded.accounts import Account, AccountChange, Accounts
from cli.up.broker import BrokerProcess
from runtime.addresses import MqttAddress
from schema.access.audit import COMMAND
from schema.access.credentials import Credential, Scope, add_certificate, create, revoke, rotate
from schema.access.secrets import CredentialKind
from schema.database import Connection
from tests.support.brokers.accounts import account, key
from tests.support.brokers.mqtt import Peer, RawClient, connect_packet, embedded_broker, until
from tests.support.processes.services import free_port

WITHIN_S = 60


def credential(number: int, kind: CredentialKind, name: str, *scopes: Scope) -> Credential:
    digest = None if kind is CredentialKind.CERTIFICATE else bytes([number]) * 32
    return Credential(number, kind, name, frozenset(scopes), digest)


def test_devices_and_keys_with_rights_here_are_accounts_and_no_others() -> None:
    accounts = accounts_of(
        [
            credential(1, CredentialKind.DEVICE, "d"),
            credential(2, CredentialKind.DEVICE, "d"),
            credential(3, CredentialKind.CERTIFICATE, "c"),
            credential(4, CredentialKind.KEY, "d", Scope.READ, Scope.INGEST),
            credential(5, CredentialKind.KEY, "admin", Scope.ADMIN, Scope.METRICS),
        ]
    )
    assert accounts == {
        "d": Account("d", (), (b"\1" * 32, b"\2" * 32)),
        "_key.d": Account("_key.d", ("ingest", "read"), (b"\4" * 32,)),
    }


@pytest.mark.parametrize("number", [0, 1, CHANGE_ACCOUNTS_MAX, 2 * CHANGE_ACCOUNTS_MAX + 1])
def test_changes_turn_one_set_into_another_in_parts(number: int) -> None:
    old = {each.login: each for each in (account("gone"), account("same"), account("rotated"))}
    new = {each.login: each for each in (account("same"), account("rotated", secrets=("new",)))}
    new |= {f"d{n}": account(f"d{n}") for n in range(number)}
    accounts = Accounts()
    for change in [*changes({}, old), *changes(old, new)]:
        assert len(change.put) + len(change.removed) <= CHANGE_ACCOUNTS_MAX
        accounts.apply(change)
    assert accounts.complete
    assert accounts._by_login == new


def test_without_a_difference_the_only_change_says_that_all_have_arrived() -> None:
    same = {"a": account("a")}
    assert list(changes(same, same)) == [AccountChange(complete=True)]


async def test_changes_pass_through_a_socket_until_its_other_end_is_closed() -> None:
    ours, theirs = socket.socketpair()
    sent = list(changes({}, {"a:b": account("a:b"), "_key.k": key("k", "read")}))
    with ours:
        ours.sendall(b"".join(map(encode, sent)))
        ours.shutdown(socket.SHUT_WR)
        received = [each async for each in read_accounts(theirs)]
        assert ours.recv(2 * len(CONFIRMATION)) == CONFIRMATION
    assert [encode(each) for each in received] == [encode(each) for each in sent]


@pytest.fixture
async def port(dsn: str) -> AsyncIterator[int]:
    """A broker that follows the tables itself, as `voltwire broker` does."""
    following = follow_accounts(dsn, "test broker")
    async with embedded_broker(changes=following) as port:
        yield port
    await following.aclose()


async def accepts(port: int, login: str, secret: str | None) -> bool:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.send(connect_packet(login, password=secret))
    packet = await peer.packet()
    peer.drop()
    return packet is not None and packet[1][1] == 0


async def eventually(port: int, login: str, secret: str | None, *, accepted: bool) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await accepts(port, login, secret) is not accepted:  # noqa: ASYNC110  # Of the broker.
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_change_in_the_tables_is_in_force_without_a_restart(
    port: int, db: Connection
) -> None:
    first = await create(db, COMMAND, CredentialKind.DEVICE, "d")
    secret = await create(db, COMMAND, CredentialKind.KEY, "k", [Scope.READ])
    await add_certificate(db, COMMAND, "c")
    await eventually(port, "_key.k", secret, accepted=True)
    second = await rotate(db, COMMAND, CredentialKind.DEVICE, "d", overlap_s=3)
    await eventually(port, "d", second, accepted=True)
    assert await accepts(port, "d", first)
    client = await RawClient.connect(port, "d", password=second)
    await eventually(port, "d", first, accepted=False)  # The overlap has ended.
    await revoke(db, COMMAND, ["d", "k"])
    await eventually(port, "_key.k", secret, accepted=False)
    assert not await accepts(port, "d", second)
    client.drop()


@pytest.mark.slow
async def test_an_outage_of_the_database_cuts_nobody_off(
    port: int, db: Connection, postgres: str
) -> None:
    known = await create(db, COMMAND, CredentialKind.DEVICE, "known")
    await eventually(port, "known", known, accepted=True)
    device = await RawClient.connect(port, "known", password=known)
    name = await db.fetchval("select current_database()")
    server = await asyncpg.connect(postgres)
    await server.execute(f'alter database "{name}" allow_connections false')
    ended = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1"
    assert await server.fetchval(ended, "test broker")
    await device.ping()
    assert await accepts(port, "known", known)  # It takes over the connection of the device.
    assert not await accepts(port, "unknown", known)
    late = await create(db, COMMAND, CredentialKind.DEVICE, "late")
    await server.execute(f'alter database "{name}" allow_connections true')
    await server.close()
    await eventually(port, "late", late, accepted=True)
    device.drop()


@pytest.mark.slow
async def test_a_broker_whose_parent_has_gone_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no signal tells it."""
    port = free_port()
    monkeypatch.setenv("MQTT_PORT", str(port))
    monkeypatch.setenv("AUTH", "on")
    process = BrokerProcess("our password")
    try:
        address = MqttAddress("127.0.0.1", port)
        await asyncio.to_thread(process.wait_until_it_listens, address)
        assert not await accepts(port, "d", "secret")
        await process.give({"d": Account("d", (), account("d", secrets=("secret",)).digests)})
        assert await accepts(port, "d", "secret")  # At once: the broker has confirmed it.
        process._socket.shutdown(socket.SHUT_RDWR)
        await until(lambda: not process.running, WITHIN_S)
        assert process._process.returncode == 0
        with pytest.raises(OSError):  # noqa: PT011  # Which one is a matter of the moment.
            await process.give({})
    finally:
        process.stop()
