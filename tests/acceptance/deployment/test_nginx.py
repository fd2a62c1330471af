"""Voltwire behind the shipped nginx file: nothing is lost, delayed or made up on the way."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from api.serve.sockets import listen
from api.serve.uvicorn_server import serve
from tests.acceptance.conftest import running_up
from tests.conftest import MAX_EVENT_AGE_DAYS
from tests.support.http import plain_http
from tests.support.http.nginx import NAME, Nginx, nginx
from tests.support.processes.programs import require_program
from tests.support.processes.services import Process, free_port

MIB = 1024 * 1024
CLIENT = "127.0.0.2"  # Another address than the proxy's.


@pytest.fixture(scope="module")
def up(database: str) -> Iterator[Process]:
    """One post in a minute and one stream, so that the second of either is refused."""
    require_program("nginx")
    settings: dict[str, Any] = {
        "RATE_LIMIT_REQUESTS": "1", "RATE_LIMIT_WINDOW_SECONDS": "60", "STREAMS_MAX": "1",
        "TRUSTED_NETWORK": "true", "MAX_EVENT_AGE_DAYS": str(MAX_EVENT_AGE_DAYS),
    }  # fmt: skip
    with running_up(DATABASE_URL=database, **settings) as process:
        yield process


@pytest.fixture(scope="module")
def proxy(up: Process) -> Iterator[Nginx]:
    with nginx(int(up.settings["HTTP_PORT"])) as running:
        yield running


@pytest.fixture(scope="module")
def http(proxy: Nginx) -> Iterator[httpx.Client]:
    with proxy.client() as client:
        yield client


def event(event_id: str, device_id: str, x: float = 0) -> dict[str, object]:
    return {"event_id": event_id, "device_id": device_id, "metrics": {"x": x}}


def test_http_leads_to_https_with_the_method_and_the_path(proxy: Nginx) -> None:
    url = f"http://localhost:{proxy.http_port}/v1/events?x=1"
    response = plain_http.post(url, headers={"Host": NAME}, json={})
    assert (response.status_code, response.headers["location"]) == (
        308,
        f"https://{NAME}/v1/events?x=1",
    )


def test_a_post_and_a_query_pass(http: httpx.Client) -> None:
    posted = http.post("/v1/events", json=event("1", "a"))
    assert (posted.status_code, posted.json()) == (200, {"status": "ok"})
    assert "max-age" in posted.headers["strict-transport-security"]
    many = {"device_id": ["a", *(f"device-with-a-long-name-{n:0100}" for n in range(100))]}
    asked = http.get("/v1/metrics/aggregate", params={"metric": "x", "interval": "1h", **many})
    assert asked.status_code != 414, asked.text
    found = http.get("/v1/devices/a/events").raise_for_status().json()
    assert [each["event_id"] for each in found] == ["1"]


def test_a_batch_of_8_mib_is_stored_and_a_larger_one_is_refused_by_voltwire(
    http: httpx.Client,
) -> None:
    first, second = (json.dumps(event(name, "b")) for name in ("1", "2"))
    room = 8 * MIB - len(first) - len(second) - 3

    def post(spaces: int) -> httpx.Response:
        body = f"[{first},{' ' * spaces}{second}]".encode()
        return http.post(
            "/v1/events/batch", content=body, headers={"Content-Type": "application/json"}
        )

    stored = post(room)
    assert [item["status"] for item in stored.raise_for_status().json()] == ["stored"] * 2
    refused = post(room + 1)
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_refusal_of_voltwire_arrives_with_its_headers_and_reasons(http: httpx.Client) -> None:
    http.post("/v1/events", json=event("1", "busy")).raise_for_status()
    for n in range(3):  # Another address in a header changes nothing.
        forged = {"X-Forwarded-For": f"203.0.113.{n}", "X-Forwarded-Host": f"{n}.example"}
        refused = http.post("/v1/events", json=event("2", "busy"), headers=forged)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["status"] == 429


def test_an_alert_arrives_at_once_and_a_second_stream_is_refused(http: httpx.Client) -> None:
    rule = {"device_id": "s", "metric": "x", "op": ">", "threshold": 1, "severity": "info"}
    http.post("/v1/alerts", json=rule).raise_for_status()
    with http.stream("GET", "/v1/alerts/stream", timeout=10) as stream:  # Comments come after 15 s.
        assert stream.status_code == 200
        full = http.get("/v1/presence/stream")
        assert (full.status_code, full.headers["content-type"]) == (503, "application/problem+json")
        assert int(full.headers["retry-after"]) >= 1
        http.post("/v1/events", json=event("1", "s", x=2)).raise_for_status()
        lines = stream.iter_lines()
        data = next(line for line in lines if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["device_id"] == "s"


async def test_voltwire_sees_the_client_and_not_what_the_client_claims() -> None:
    async def echo(scope: Scope, _: Receive, send: Send) -> None:
        assert scope["type"] == ScopeType.HTTP
        headers = sorted(name.decode() for name, _ in scope["headers"] if b"forwarded" in name)
        body = json.dumps([scope["client"], scope["scheme"], headers]).encode()
        length = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def ask(port: int) -> list[object]:
        claims = {
            "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": "evil.example", "Forwarded": "for=203.0.113.9",
        }  # fmt: skip
        with nginx(port) as proxy, proxy.client(CLIENT) as http:
            return list(http.get("/", headers=claims).json())

    port, stop = free_port(), asyncio.Event()
    listener = listen("127.0.0.1", port, "HTTP_PORT")
    serving = asyncio.create_task(serve(echo, listener, stop, 2**24, ["127.0.0.1/32"]))
    client, scheme, headers = await asyncio.to_thread(ask, port)
    stop.set()
    await serving
    assert (client, scheme) == ([CLIENT, 0], "https")
    assert headers == ["x-forwarded-for", "x-forwarded-proto"]
