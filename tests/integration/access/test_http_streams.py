"""Streams end with the credential that began them, and no key takes all places."""

import asyncio

import pytest

from schema.access.audit import COMMAND
from schema.access.credentials import Scope, create, revoke
from schema.access.secrets import CredentialKind
from schema.database import Connection
from tests.support.http.access import (
    ORIGIN,
    WITHIN_S,
    Guarded,
    bearer,
    begin_session,
    guarded_api,
    until_status,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUT_S_MAX = 5.0  # The promise of docs/security.md.


async def test_a_stream_ends_when_its_key_is_revoked(api: Guarded, tables: Connection) -> None:
    secret = await create(tables, COMMAND, CredentialKind.KEY, "viewer", [Scope.READ])
    assert secret is not None
    await until_status(api, bearer(secret), 200)
    stream = asyncio.create_task(open_stream(api, bearer(secret)))
    await stream_is_open(api, 1)
    await revoke(tables, COMMAND, ["viewer"], CredentialKind.KEY)
    async with asyncio.timeout(CUT_S_MAX):
        await stream
    again = await api.http.get("/v1/alerts/stream", headers=bearer(secret))
    assert again.status_code == 401


async def test_a_stream_of_a_session_ends_with_the_session(api: Guarded) -> None:
    cookie = {"Cookie": (await begin_session(api, "read")).headers["set-cookie"].partition(";")[0]}
    api.http.cookies.clear()
    stream = asyncio.create_task(open_stream(api, cookie))
    await stream_is_open(api, 1)
    await api.http.delete("/v1/session", headers=cookie | {"Origin": ORIGIN})
    async with asyncio.timeout(CUT_S_MAX):
        await stream


async def test_other_streams_go_on_when_a_key_is_revoked(api: Guarded, tables: Connection) -> None:
    await create(tables, COMMAND, CredentialKind.KEY, "bystander", [Scope.READ])
    stream = asyncio.create_task(open_stream(api, api.headers("read")))
    await stream_is_open(api, 1)
    await revoke(tables, COMMAND, ["bystander"], CredentialKind.KEY)
    done, _ = await asyncio.wait([stream], timeout=0.3)
    assert not done
    stream.cancel()


async def open_stream(api: Guarded, headers: dict[str, str]) -> None:
    """Until the server ends it. The transport has no socket, so it returns the response as a whole."""
    response = await api.http.get("/v1/alerts/stream", headers=headers)
    assert response.status_code == 200


async def stream_is_open(api: Guarded, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while api.feed._open_streams < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_key_has_at_most_half_of_all_streams(database: tuple[str, dict[str, str]]) -> None:
    async with guarded_api(*database, streams_max=4) as api:
        held = [asyncio.create_task(open_stream(api, api.headers("read"))) for _ in range(2)]
        await stream_is_open(api, 2)
        third = await api.http.get("/v1/alerts/stream", headers=api.headers("read"))
        assert (third.status_code, third.headers["retry-after"]) == (429, "5")
        other = asyncio.create_task(open_stream(api, api.headers("admin")))
        await stream_is_open(api, 3)
        for each in (*held, other):
            each.cancel()
        await asyncio.wait([*held, other])
        await stream_is_open(api, 0)
        assert api.feed._open_streams == 0
        assert not api.feed._held
