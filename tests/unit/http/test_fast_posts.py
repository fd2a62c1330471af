"""docs/decisions/0021: the fast path answers before Litestar, exactly as Litestar would."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import asyncpg
import httpx
import pytest
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec.structs import replace as altered

from api.app import create_app, create_litestar
from api.ingest.door import HttpDoor
from api.ingest.fast_posts import FastPath, fast_path_first
from api.services import Services
from runtime.errors import InvalidRequest, Overloaded, StoreUnavailable, TooManyRequests
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.event import Reason, Status, Verdict

BASE = "http://127.0.0.1:8000"
JSON = {"Content-Type": "application/json"}
BODY = b'{"device_id":"a","metrics":{"temp":20}}'
STORED, DUPLICATE = Verdict("e1", Status.STORED), Verdict("e1", Status.DUPLICATE)
REJECTED = Verdict(None, Status.REJECTED, Reason.BAD_TIME, "ts: no")


class Door(HttpDoor):
    """Gives every event the same verdict, or raises it."""

    def __init__(self, result: Verdict | Exception) -> None:
        self.result = result
        self.bodies: list[bytes] = []

    async def post_event(self, payload: bytes, device_id: str | None = None) -> Verdict:
        self.bodies.append(payload)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def post_batch(self, payload: bytes, device_id: str | None = None) -> list[Verdict]:
        return [await self.post_event(payload)] * 2


def services(door: Door) -> Services:
    nothing: Any = None
    empty = Services(**dict.fromkeys(Services.__slots__, nothing))
    return replace(empty, door=door, request_seconds=Metrics().request_seconds)


async def request(app: ASGIApp, *arguments: Any, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        return await client.request(*arguments, **options)


class Elsewhere:
    """Stands in for Litestar, and reads nothing."""

    def __init__(self) -> None:
        self.entered = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered = True
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


async def echo(body: bytes) -> object:
    return body.decode()


@pytest.fixture
def app(elsewhere: Elsewhere) -> ASGIApp:
    return fast_path_first(elsewhere, {"/v1/events": FastPath(echo, 100)}, [])


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_an_ordinary_post_takes_the_fast_path(
    app: ASGIApp, elsewhere: Elsewhere, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = await request(app, "POST", "/v1/events", content=b"x" * 100, headers=headers)
    assert (response.status_code, response.json()) == (200, "x" * 100)
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert not elsewhere.entered


async def in_pieces() -> AsyncIterator[bytes]:
    yield BODY


@pytest.mark.parametrize(
    ("method", "path", "content", "headers"),
    [
        ("GET", "/v1/events", None, {}),
        ("HEAD", "/v1/events", None, {}),
        ("OPTIONS", "/v1/events", BODY, JSON),
        ("PUT", "/v1/events", BODY, JSON),
        ("POST", "/v1/events/", BODY, JSON),
        ("POST", "/v1/devices", BODY, JSON),
        ("POST", "/v1/events?dry=1", BODY, JSON),
        ("POST", "/v1/events", BODY, {}),
        ("POST", "/v1/events", BODY, {"Content-Type": "text/plain"}),
        ("POST", "/v1/events", BODY, {"Content-Type": "application/jsonp"}),
        ("POST", "/v1/events", BODY, JSON | {"Content-Encoding": "gzip"}),
        ("POST", "/v1/events", BODY, JSON | {"Content-Length": "x"}),
        ("POST", "/v1/events", b"x" * 101, JSON),
        ("POST", "/v1/events", in_pieces(), JSON),
        ("POST", "/v1/events", BODY, [*JSON.items(), ("Content-Type", "text/plain")]),
        ("POST", "/v1/events", BODY, [*JSON.items(), ("Host", "a"), ("Host", "b")]),
    ],
)
async def test_every_other_request_passes_on_unchanged(
    app: ASGIApp, elsewhere: Elsewhere, method: str, path: str, content: Any, headers: Any
) -> None:
    response = await request(app, method, path, content=content, headers=headers)
    assert response.status_code == 204
    assert elsewhere.entered


@pytest.fixture(scope="module")
def both() -> Sequence[tuple[ASGIApp, Door]]:
    """With the fast path and without it, each with its door; an app takes long to build."""
    doors = Door(STORED), Door(STORED)
    fast = create_app(Settings(), services(doors[0]))
    litestar = cast("ASGIApp", create_litestar(Settings(), services(doors[1])))
    return list(zip((fast, litestar), doors, strict=True))


@pytest.mark.parametrize(
    "result",
    [
        STORED,
        DUPLICATE,
        altered(STORED, event_id="auto-1-2"),
        altered(DUPLICATE, event_id="random-ü"),
        InvalidRequest("ts: no", reason=Reason.BAD_TIME),
        InvalidRequest("many", errors=[{"field": "a", "message": "b"}]),
        TooManyRequests("More than 10 posts.", retry_after_s=7),
        Overloaded("Too many posts wait."),
        StoreUnavailable("secret"),
        ConnectionRefusedError("secret"),
        asyncpg.QueryCanceledError("secret"),
        asyncpg.DataError("secret"),
        RuntimeError("secret"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/events", "/telemetry", "/v1/events/batch"])
async def test_the_answer_is_the_one_that_litestar_gives(
    both: Sequence[tuple[ASGIApp, Door]], path: str, result: Any
) -> None:
    responses = []
    for app, door in both:
        door.result, door.bodies = result, []
        responses.append(await request(app, "POST", path, content=BODY, headers=JSON))
    plain, other = responses
    assert (plain.status_code, plain.content) == (other.status_code, other.content)
    assert plain.headers == other.headers
    assert [door.bodies for _, door in both] == [[BODY]] * 2
    assert "secret" not in plain.text


async def test_every_item_of_a_batch_has_its_result() -> None:
    app = create_app(Settings(), services(Door(REJECTED)))
    response = await request(app, "POST", "/v1/events/batch", content=b"[]", headers=JSON)
    assert response.json() == [{"event_id": None, "status": "rejected", "reason": "bad_time"}] * 2


async def test_a_foreign_host_is_refused_before_the_body_is_read() -> None:
    door = Door(STORED)
    app = create_app(Settings(), services(door))
    for headers in (JSON | {"Host": "evil.example"}, [*JSON.items(), ("Host", "a"), ("Host", "b")]):
        response = await request(app, "POST", "/v1/events", content=BODY, headers=headers)
        assert response.status_code == 421
    assert door.bodies == []


async def test_posts_are_counted_by_route_and_status() -> None:
    door = Door(STORED)
    given = services(door)
    app = create_app(Settings(), given)
    for result in (STORED, STORED, InvalidRequest("no")):
        door.result = result
        await request(app, "POST", "/telemetry", content=BODY, headers=JSON)
    await request(app, "POST", "/v1/events", content=BODY, headers=JSON | {"Host": "evil.example"})
    (metric,) = given.request_seconds.collect()
    counts = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in metric.samples
        if sample.name.endswith("_count")
    }
    assert counts == {
        ("POST", "/telemetry", "200"): 2,
        ("POST", "/telemetry", "422"): 1,
        ("POST", "/v1/events", "421"): 1,
    }


def scope(length: int) -> Scope:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    fields = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b""}
    return cast("Scope", fields | {"headers": headers})


def received(messages: Iterable[Any]) -> Receive:
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    return receive


async def test_a_body_may_come_in_pieces(app: ASGIApp) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    pieces = [
        {"type": "http.request", "body": part, "more_body": True} for part in (b"a", b"", b"b")
    ]
    last = {"type": "http.request", "body": b"c", "more_body": False}
    await app(scope(3), received([*pieces, last]), send)
    assert cast("Any", sent[1])["body"] == b'"abc"'


async def test_who_leaves_before_the_end_of_the_body_is_not_answered() -> None:
    async def never(_: bytes) -> object:
        raise AssertionError("Half a body is none.")

    async def send(_: Message) -> None:
        raise AssertionError("Nobody is there.")

    app = fast_path_first(Elsewhere(), {"/v1/events": FastPath(never, 100)}, [])
    half = {"type": "http.request", "body": b"a", "more_body": True}
    await app(scope(3), received([half, {"type": "http.disconnect"}]), send)
