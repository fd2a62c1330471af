"""Accounts of the embedded broker without a database: tests change them as its feed would."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from broker.embedded.account_changes import changes
from broker.embedded.accounts import Account, AccountChange
from schema.access.credentials import KEY_LOGIN_PREFIX
from schema.access.secrets import digest
from tests.support.brokers.mqtt import PASSWORD, RawClient, embedded_broker

OURS = "voltwire-ingest"


def secret_of(login: str) -> str:
    return f"the secret of {login}"


def account(login: str, *scopes: str, secrets: tuple[str, ...] = ()) -> Account:
    texts = secrets or (secret_of(login),)
    return Account(login, scopes, tuple(digest(each.encode()) for each in texts))


def key(name: str, *scopes: str) -> Account:
    return account(f"{KEY_LOGIN_PREFIX}{name}", *scopes)


class AccountFeed:
    """What the broker is told, change by change; `set` returns once it has applied all of it."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[AccountChange] = asyncio.Queue()
        self._known: dict[str, Account] = {}
        self._clients: list[RawClient] = []
        self.port = 0

    async def set(self, *accounts: Account) -> None:
        wanted = {each.login: each for each in accounts}
        for change in changes(self._known, wanted):
            self._waiting.put_nowait(change)
        self._known = wanted
        await self._waiting.join()

    async def changes(self) -> AsyncGenerator[AccountChange, None]:
        while True:
            yield await self._waiting.get()
            self._waiting.task_done()

    async def connect(self, login: str, **options: object) -> RawClient:
        """A client that logs in with the first secret of this account."""
        values: dict[str, Any] = {"password": secret_of(login), **options}
        client = await RawClient.connect(self.port, login, **values)
        self._clients.append(client)
        return client

    async def ours(self, *filters: str, client_id: str = OURS) -> RawClient:
        """A session of our own with these subscriptions."""
        client = await self.connect(client_id, password=PASSWORD, clean=False)
        for each in filters:
            assert await client.subscribe(each) == 1
        return client

    def drop_all(self) -> None:
        for client in self._clients:
            client.drop()


@asynccontextmanager
async def guarded_broker(
    *accounts: Account, ha_discovery: bool = False
) -> AsyncIterator[AccountFeed]:
    """The embedded broker with authentication on and these accounts."""
    feed = AccountFeed()
    running = embedded_broker(changes=feed.changes(), ha_discovery=ha_discovery)
    async with running as feed.port:
        await feed.set(*accounts)
        yield feed
        feed.drop_all()
