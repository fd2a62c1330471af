"""The accounts of the embedded broker, from the tables to its memory, in changes of limited size.

`voltwire up` follows the tables and writes the changes into a socket, which the broker's process reads;
`voltwire broker` follows the tables itself.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing

import msgspec

from broker.embedded.accounts import Account, AccountChange
from schema.access.credentials import Credential, Scope
from schema.access.secrets import CredentialKind
from schema.access.watch import follow_credentials

BROKER_SCOPES = {Scope.INGEST, Scope.READ}  # Keys without one of these have no rights at a broker.
CHANGE_ACCOUNTS_MAX = (
    500  # To read and apply them holds the broker's event loop for about a millisecond.
)
LINE_BYTES_MAX = 1024 * 1024
CONFIRMATION = b"\n"

_read = msgspec.json.Decoder(AccountChange).decode


def accounts_of(credentials: Sequence[Credential]) -> dict[str, Account]:
    """Who may log in here. Certificates may not: there is no TLS."""
    accounts: dict[str, Account] = {}
    for each in credentials:
        if each.digest is None or (
            each.kind is CredentialKind.KEY and not each.scopes & BROKER_SCOPES
        ):
            continue
        former = accounts.get(each.login)
        digests = (*(former.digests if former else ()), each.digest)
        accounts[each.login] = Account(each.login, tuple(sorted(each.scopes)), digests)
    return accounts


def changes(old: Mapping[str, Account], new: Mapping[str, Account]) -> Iterator[AccountChange]:
    """What turns one set into the other. There is always a last, complete one."""
    put = [each for login, each in new.items() if old.get(login) != each]
    removed = [login for login in old if login not in new]
    for start in range(0, len(removed), CHANGE_ACCOUNTS_MAX):
        yield AccountChange(removed=removed[start : start + CHANGE_ACCOUNTS_MAX])
    for start in range(0, len(put), CHANGE_ACCOUNTS_MAX):
        yield AccountChange(put=put[start : start + CHANGE_ACCOUNTS_MAX])
    yield AccountChange(complete=True)


async def follow_accounts(dsn: str, name: str) -> AsyncGenerator[AccountChange, None]:
    """The changes that make the accounts those of the tables, without end."""
    known: dict[str, Account] = {}
    async with aclosing(follow_credentials(dsn, name)) as following:
        async for credentials in following:
            accounts = accounts_of(credentials)
            for change in changes(known, accounts):
                yield change
            known = accounts


def encode(change: AccountChange) -> bytes:
    return msgspec.json.encode(change) + b"\n"


async def read_accounts(sock: socket.socket) -> AsyncGenerator[AccountChange, None]:
    """The changes that another process writes; it ends when that process closes the socket or ends.

    Each complete set is confirmed once its reader asks for the next change, so has applied this one.
    """
    reader, writer = await asyncio.open_connection(sock=sock, limit=LINE_BYTES_MAX)
    try:
        while line := await reader.readline():
            change = _read(line)
            yield change
            if change.complete:
                writer.write(CONFIRMATION)
    except ConnectionError:
        return
    finally:
        writer.close()
