"""Whose address a request has: that of its connection, or what a proxy of TRUSTED_PROXIES says."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from api.serve.sockets import listen
from api.serve.uvicorn_server import serve
from runtime.errors import StartError
from runtime.settings import Settings
from tests.support.processes.services import free_port

STRANGER = "203.0.113.7"


async def echo(scope: Scope, _: Receive, send: Send) -> None:
    """Answers with the client's address and scheme."""
    assert scope["type"] == ScopeType.HTTP
    body = json.dumps([(scope["client"] or [None])[0], scope["scheme"]]).encode()
    length = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@asynccontextmanager
async def server(trusted: str | None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    settings = Settings(trusted_proxies=trusted)
    port, stop = free_port(), asyncio.Event()
    listener = listen(host, port, "HTTP_PORT")
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(echo, listener, stop, 2**24, settings.proxy_networks))
        yield port
        stop.set()


async def seen(port: int, headers: dict[str, str]) -> Sequence[str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        found: Sequence[str] = (await http.get(f"http://127.0.0.1:{port}", headers=headers)).json()
        return found


@pytest.mark.parametrize("trusted", [None, "10.0.0.0/8,::1"])
async def test_headers_of_strangers_change_nothing_however_they_rotate(
    trusted: str | None,
) -> None:
    async with server(trusted) as port:
        for n in range(20):
            address = f"203.0.113.{n}"
            claims = {
                "X-Forwarded-For": address, "X-Real-IP": address, "Forwarded": f"for={address}",
                "X-Forwarded-Host": f"{n}.example", "X-Forwarded-Proto": "https",
            }  # fmt: skip
            assert await seen(port, claims) == ["127.0.0.1", "http"]


@pytest.mark.parametrize(
    ("listed", "client"),
    [
        (STRANGER, STRANGER),
        (f"198.51.100.1, {STRANGER}", STRANGER),  # The client itself claimed the first.
        (f"198.51.100.1, {STRANGER}, 10.1.2.3", STRANGER),  # 10.1.2.3 is a proxy, too.
        ("2001:db8::7", "2001:db8::7"),
        ("", "127.0.0.1"),
    ],
)
async def test_a_trusted_proxy_names_the_client(listed: str, client: str) -> None:
    async with server("127.0.0.1,10.0.0.0/8") as port:
        headers = {"X-Forwarded-For": listed, "X-Forwarded-Proto": "https"}
        assert await seen(port, headers) == [client, "https"]


async def test_a_proxy_is_known_behind_a_listener_of_both_families() -> None:
    try:
        async with server("127.0.0.1", host="::") as port:
            assert await seen(port, {"X-Forwarded-For": STRANGER}) == [STRANGER, "http"]
    except* StartError:
        pytest.skip("This machine has no IPv6.")
