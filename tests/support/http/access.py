"""Credentials of every kind on a database, and the API of one process that asks for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import asyncpg
import httpx

from api.feed import FeedReader
from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create
from schema.access.secrets import CredentialKind
from tests.support.http.http_api import api_on

ORIGIN = "http://127.0.0.1:8000"
DEVICE = "d1"
WITHIN_S = 60

_addresses = count(1)


@dataclass(frozen=True, slots=True)
class Guarded:
    """`secrets`: of the device d1, and of a key for each scope, by their names."""

    http: httpx.AsyncClient
    secrets: dict[str, str]

    @property
    def feed(self) -> FeedReader:
        feed: FeedReader = cast("Any", self.http).services.feed
        return feed

    def headers(self, who: str) -> dict[str, str]:
        return bearer(self.secrets[who])

    def from_elsewhere(self) -> None:
        """Further requests come from an address that was not used before."""
        n = next(_addresses)
        cast("Any", self.http)._transport.client = (
            f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}",
            1,
        )


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def make_secrets(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(dsn)
    try:
        made = {
            each.value: await create(connection, COMMAND, CredentialKind.KEY, each, [each])
            for each in Scope
        }
        made["device"] = await create(connection, COMMAND, CredentialKind.DEVICE, DEVICE)
    finally:
        await connection.close()
    return {who: secret for who, secret in made.items() if secret is not None}


@asynccontextmanager
async def guarded_api(dsn: str, secrets: dict[str, str], **settings: Any) -> AsyncIterator[Guarded]:
    async with api_on(dsn, auth="on", **settings) as http:
        guarded = Guarded(http, secrets)
        guarded.from_elsewhere()
        yield guarded


async def begin_session(api: Guarded, who: str = "admin", **headers: str) -> httpx.Response:
    return await api.http.post("/v1/session", json={"key": api.secrets[who]}, headers=headers)


async def until_status(api: Guarded, headers: dict[str, str], code: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await api.http.get("/v1/devices", headers=headers)).status_code != code:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def add_key(api: Guarded, name: str, *scopes: str) -> str:
    new = {"name": name, "scopes": list(scopes)}
    response = await api.http.post("/v1/keys", json=new, headers=api.headers("admin"))
    assert response.status_code == 201, response.text
    return str(response.json()["secret"])
