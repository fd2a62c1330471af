"""Access by docs/configuration.md#authentication: without it, a Host must be a loopback name."""

import json
from typing import Any, cast

import pytest
from litestar.types import Message, Receive, Scope, Send

from api.middleware.host_guard import loopback_hosts_only
from runtime.addresses import is_loopback


class Door:
    """The guard before an application that responses 204, and what came out of it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.entered = False
        self._guard = loopback_hosts_only(self._app)

    async def request(self, *hosts: bytes, kind: str = "http", version: str = "1.1") -> list[Any]:
        headers = [(b"accept", b"*/*"), *((b"host", host) for host in hosts)]
        scope = {"type": kind, "path": "/", "headers": headers, "http_version": version}
        await self._guard(cast("Scope", scope), self._receive, self._send)
        return self.sent

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered = True

    async def _receive(self) -> Any:
        raise AssertionError("The guard reads no body.")

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:8000",
        b"LocalHost:8000",
        b"voltwire.localhost:8000",
        b"127.0.0.1",
        b"127.0.0.1:8000",
        b"127.8.9.1:1",
        b"[::1]",
        b"[::1]:8000",
        b"[0:0:0:0:0:0:0:1]:8000",
    ],
)
async def test_a_loopback_name_is_let_in(host: bytes) -> None:
    door = Door()
    assert await door.request(host) == []
    assert door.entered


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b":8000",
        b"attacker.example",
        b"attacker.example:8000",
        b"localhost.attacker.example:8000",
        b"127.0.0.1.attacker.example",
        b"127.0.0.1.nip.io:8000",
        b"notlocalhost",
        b"localhost@attacker.example",
        b"attacker.example:80:localhost",
        b"192.168.1.5:8000",
        b"0.0.0.0:8000",
        b"10.0.0.1",
        b"[::]:8000",
        b"[fe80::1]:8000",
        b"[::1].attacker.example",
        b"localhost:attacker.example",
        b"127.0.0.1:8000.attacker.example",
        b"[]",
        b"[",
        b"\xff\xfe",
        b"localhost ",
        b"localhost\x00",
    ],
)
async def test_any_other_name_is_refused_before_the_application(host: bytes) -> None:
    door = Door()
    start, body = await door.request(host)
    assert not door.entered
    assert start["status"] == 421
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == b"%d" % len(body["body"])
    assert not body["more_body"]
    problem = json.loads(body["body"])
    assert problem["status"] == 421
    assert {"type", "title", "detail"} <= problem.keys()


@pytest.mark.parametrize(
    "hosts", [(), (b"localhost", b"attacker.example"), (b"attacker.example", b"localhost")]
)
async def test_a_request_names_exactly_one_host(hosts: tuple[bytes, ...]) -> None:
    door = Door()
    await door.request(*hosts)
    assert not door.entered
    assert door.sent


async def test_a_client_of_http_1_0_need_not_name_a_host() -> None:
    assert await Door().request(version="1.0") == []
    assert await Door().request(b"attacker.example", version="1.0")


async def test_what_is_no_request_passes() -> None:
    door = Door()
    assert await door.request(kind="lifespan") == []
    assert door.entered


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("128.0.0.1", False),
        ("127.0.0.1.example", False),
        ("localhost.example", False),
        ("2130706433", False),
        ("127.1", False),
        ("0x7f.0.0.1", False),
    ],
)
def test_loopback_is_a_name_or_an_address_that_never_leaves_the_machine(
    host: str, *, loopback: bool
) -> None:
    assert is_loopback(host) is loopback
