"""Logins of the devices of our own commands, made over HTTP."""

import asyncio

import httpx
import pytest

from cli.device_logins import forget
from cli.device_logins.over_http import ApiLogins
from runtime.errors import StartError
from runtime.settings import Settings


async def test_logins_that_were_refused_are_not_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        return httpx.Response(403)

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        logins = ApiLogins(client)
        with pytest.raises(StartError, match="403: API_KEY must be a valid admin key"):
            await logins.create(["d1"])
        await logins.remove(["d1"])
    assert asked == ["POST"]
    assert capsys.readouterr().err == ""


async def test_logins_that_were_made_are_removed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(201, json={"login": "d1", "secret": "s"})

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        logins = ApiLogins(client)
        assert (await logins.create(["d1"]))["d1"].secret == "s"
        await logins.remove(["d1"])
    assert asked[-1] == "DELETE /v1/devices/d1/credentials"


async def test_devices_do_not_wait_in_turn_for_an_api_that_does_not_respond(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forget, "RESPONSE_S_MAX", 0.3)
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1")
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        devices = [f"d{number}" for number in range(3 * forget.AT_ONCE)]
        assert not await forget.forget_devices(Settings(), url, devices, events=True)
        for each in connections:
            each.close()
    assert len(connections) == forget.AT_ONCE
    assert "24 of 24 devices are not forgotten" in capsys.readouterr().err
