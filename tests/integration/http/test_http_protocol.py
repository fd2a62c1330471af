"""What a client may do to an HTTP port of ours, over raw sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from litestar.types import Receive, Scope, Send
from structlog.testing import capture_logs

from api.serve import refusals
from api.serve.sockets import listen
from api.serve.uvicorn_server import serve
from tests.support.brokers.mqtt import until
from tests.support.processes.services import free_port

KIB, MIB = 1024, 1024 * 1024
SMALL_BUDGET = 1 * MIB
LARGE = b"x" * (65 * KIB)


class App:
    """Answers 200 with what it got; `/early` before the body, `/never` not at all, `/stream` and `/large`."""

    def __init__(self) -> None:
        self.entered = 0
        self.received_bytes = 0
        self.at_once = 0
        self.at_once_max = 0
        self.cancelled = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            await self._respond(scope, receive, send)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.at_once -= 1

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"]:
            case "/never":
                await asyncio.Event().wait()
            case "/early":
                await _send(send, 413, [b"too large"])
            case "/large":
                await _send(send, 200, [LARGE[:-1], LARGE[-1:]])
            case "/fault":
                raise RuntimeError("a secret")
            case "/stream":
                await _send(send, 200, [b"one,", b"", b"two,", b"three"], known=False)
            case _:
                body = await self._body(receive)
                await self.open.wait()
                await _send(send, 200, [b"%d" % len(body)])

    async def _body(self, receive: Receive) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
            self.received_bytes += len(message["body"])
        return body


async def _send(send: Send, status: int, pieces: list[bytes], *, known: bool = True) -> None:
    length = [(b"content-length", b"%d" % sum(map(len, pieces)))] if known else []
    await send({"type": "http.response.start", "status": status, "headers": length})
    for n, piece in enumerate(pieces):
        more = n + 1 < len(pieces)
        await send({"type": "http.response.body", "body": piece, "more_body": more})


class Client:
    """A raw connection."""

    def __init__(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.port, self.reader, self.writer = port, reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one response with a known length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def problem(self) -> tuple[int, dict[str, Any]]:
        """Status and document of a refusal; then the server says that nothing follows."""
        status, headers, body = await self.response()
        assert headers["content-type"] == "application/problem+json"
        document = json.loads(body)
        assert document["status"] == status
        assert await self.reader.read() == b""
        return status, document

    async def ended(self) -> bytes:
        return await self.reader.read()


class Server:
    def __init__(self, port: int, app: App) -> None:
        self.port, self.app = port, app

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(self.port, reader, writer)
        finally:
            writer.transport.abort()

    async def get(self, path: str = "/") -> int:
        async with self.client() as client:
            await client.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            return (await client.response())[0]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    port, app, stop = free_port(), App(), asyncio.Event()
    listener = listen("127.0.0.1", port, "HTTP_PORT")
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(app, listener, stop, SMALL_BUDGET))
        yield Server(port, app)
        stop.set()


def post(length: int, path: str = "/", *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {length}", *lines, "", ""]
    return "\r\n".join(head).encode()


async def test_requests_that_come_together_are_answered_one_at_a_time_and_in_order(
    server: Server,
) -> None:
    async with server.client() as client:
        await client.send(b"".join(post(n) + b"x" * n for n in range(50)))
        assert [(await client.response())[2] for _ in range(50)] == [b"%d" % n for n in range(50)]
    assert server.app.at_once_max == 1


async def test_what_is_sent_ahead_waits_unread_while_an_answer_is_not_taken(server: Server) -> None:
    """Once, 590,703 pipelined requests were taken in, 1.4 GB of them."""
    server.app.open.clear()
    async with server.client() as client:
        sending = asyncio.create_task(client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000_000))
        await asyncio.wait((sending,), timeout=1)
        assert not sending.done(), "27 MB fit into no buffer of the kernel"
        assert server.app.entered == 1
        assert await server.get("/stream") == 200
        server.app.open.set()
        for _ in range(1000):
            assert (await client.response())[0] == 200
        sending.cancel()


@pytest.mark.parametrize(
    ("flood", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MIB, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X" * MIB, 431),
        (b"GET /" + b"x" * MIB, 414),
    ],
)
async def test_a_head_beyond_64_kib_is_refused(server: Server, flood: bytes, status: int) -> None:
    async with server.client() as client:
        sending = asyncio.create_task(client.send(flood))
        assert (await client.problem())[0] == status
        await sending
    assert server.app.entered == 0


async def test_a_head_of_nearly_64_kib_is_answered(server: Server) -> None:
    target = "/?" + "&".join(f"device_id={'d' * 50}" for _ in range(1000))
    assert len(target) < 64 * KIB - 1024
    assert await server.get(target) == 200


async def test_a_head_that_does_not_end_in_time_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "HEAD_S_MAX", 0.3)
    async with server.client() as slow, server.client() as silent:
        await slow.send(b"GET / HTTP/1.1\r\n")
        assert (await slow.problem())[0] == 408
        assert await silent.ended() == b""


async def test_the_second_head_of_a_connection_has_a_deadline_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "HEAD_S_MAX", 0.3)
    async with server.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET")
        assert (await client.response())[0] == 200
        assert (await client.problem())[0] == 408


async def test_a_body_that_stops_is_refused_and_one_that_moves_on_has_its_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "BODY_S_MAX", 0.5)
    monkeypatch.setattr(refusals, "BODY_BYTES_PER_S_MIN", 1000)
    async with server.client() as stopped, server.client() as moving:
        await stopped.send(post(1000) + b"x")
        await moving.send(post(4000) + b"x" * 3000)
        assert (await stopped.problem())[0] == 408
        await moving.send(b"x" * 1000)
        assert (await moving.response())[2] == b"4000"


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_beyond_the_budget_are_refused_and_small_ones_still_pass(
    server: Server, *, chunked: bool
) -> None:
    """Once, 250 unfinished batches took 1.5 GB."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    piece = b"x" * (250 * KIB)
    begin = head + (
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (2 * len(piece))
        if chunked
        else b"Content-Length: %d\r\n\r\n" % (2 * len(piece))
    )
    async with server.client() as first, server.client() as second, server.client() as third:
        await first.send(begin + piece)
        await until(lambda: server.app.received_bytes == len(piece))
        await second.send(begin + piece)
        await until(lambda: server.app.received_bytes == 2 * len(piece))
        await third.send(begin + piece + piece)
        status, _ = await third.problem()
        assert status == 503
        async with server.client() as small:
            await small.send(post(60 * KIB) + b"x" * 60 * KIB)
            assert (await small.response())[2] == b"%d" % (60 * KIB)
        await first.send(piece + (b"\r\n0\r\n\r\n" if chunked else b""))
        assert (await first.response())[0] == 200
        async with server.client() as again:
            await again.send(begin + piece + piece + (b"\r\n0\r\n\r\n" if chunked else b""))
            assert (await again.response())[0] == 200


async def test_a_client_that_leaves_gives_its_share_of_the_budget_back(server: Server) -> None:
    for _ in range(10):
        async with server.client() as client:
            await client.send(post(700 * KIB) + b"x" * 600 * KIB)
            await until(lambda: server.app.at_once == 1)
        await until(lambda: server.app.at_once == 0)
    async with server.client() as client:
        await client.send(post(700 * KIB) + b"x" * 700 * KIB)
        assert (await client.response())[0] == 200


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("size", [1 * MIB, 12 * MIB])
async def test_a_refusal_before_the_body_was_read_arrives(
    server: Server, size: int, connection: str
) -> None:
    """With Connection: close the client saw a reset instead of the response, 30 of 30."""
    for _ in range(3):
        async with server.client() as client:
            sending = asyncio.create_task(
                client.send(post(size, "/early", f"Connection: {connection}") + b"x" * size)
            )
            status, _, body = await client.response()
            assert (status, body) == (413, b"too large")
            await sending
            if connection == "close":
                assert await client.ended() == b""
            else:
                await client.send(post(3) + b"abc")
                assert (await client.response())[2] == b"3"


async def test_an_endless_body_behind_a_refusal_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "DISCARD_BYTES_MAX", 4 * MIB)
    async with server.client() as client:
        await client.send(post(10**12, "/early"))
        with pytest.raises(ConnectionError):
            await client.send(b"x" * 100 * MIB)


async def test_a_client_that_leaves_ends_the_work_on_its_request(server: Server) -> None:
    async with server.client() as client:
        await client.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: server.app.entered == 1)
    await server.app.cancelled.wait()


async def test_http_1_0_gets_a_body_that_ends_with_the_connection(server: Server) -> None:
    """Once, chunk sizes stood inside exports."""
    async with server.client() as client:
        await client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        head, _, body = (await client.ended()).partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b"one,two,three"


async def test_http_1_1_gets_chunks_and_keeps_its_connection(server: Server) -> None:
    async with server.client() as client:
        await client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"chunked" in head
        assert (
            await client.reader.readuntil(b"0\r\n\r\n")
            == b"4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n"
        )
        await client.send(post(1) + b"x")
        assert (await client.response())[0] == 200


async def test_a_response_of_known_length_comes_in_one_piece_and_a_large_one_whole(
    server: Server,
) -> None:
    async with server.client() as client:
        await client.send(post(2) + b"xx")
        assert (await client.reader.read(64 * KIB)).endswith(b"\r\n\r\n2")
        await client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.response())[2] == LARGE
        await client.send(post(1) + b"x")
        assert (await client.response())[2] == b"1"


async def test_head_is_answered_without_a_body(server: Server) -> None:
    async with server.client() as client:
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + post(2) + b"xx")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 1" in head
        assert (await client.response())[2] == b"2"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_as_a_problem(server: Server, nonsense: bytes) -> None:
    async with server.client() as client:
        await client.send(nonsense)
        assert (await client.problem())[0] == 400
    assert await server.get() == 200


@pytest.mark.parametrize("target", [b"http://a", b"http://a/", b"http://b.example/"])
async def test_an_absolute_target_is_answered(server: Server, target: bytes) -> None:
    async with server.client() as client:
        await client.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.response())[0] == 200


@pytest.mark.parametrize(("cut", "held"), [(1, 2), (20, 30), (20, 52)])
async def test_a_request_that_comes_in_pieces_during_a_response_keeps_its_order(
    server: Server, cut: int, held: int
) -> None:
    following = post(3) + b"abc"
    server.app.open.clear()
    async with server.client() as client:
        await client.send(post(1) + b"x" + following[:cut])
        await until(lambda: server.app.received_bytes == 1)
        await client.send(following[cut:held])
        server.app.open.set()
        assert (await client.response())[2] == b"1"
        await client.send(following[held:])
        assert (await client.response())[2] == b"3"


@pytest.mark.parametrize(
    "nonsense", [b"\0", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"\r\n\0" * 100_000]
)
async def test_a_request_gets_its_own_response_whatever_follows_it(
    server: Server, nonsense: bytes
) -> None:
    """Once, the refusal of what followed took its place, although an event was stored."""
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    with capture_logs() as logs:
        async with server.client() as client:
            await client.send(chunked + nonsense)
            status, _, body = await client.response()
            assert (status, body) == (200, b"1")
            assert await client.ended() == b""
    assert logs == []


async def test_a_fault_of_the_application_is_a_problem_without_a_word_of_it(server: Server) -> None:
    async with server.client() as client:
        await client.send(b"GET /fault HTTP/1.1\r\nHost: a\r\n\r\n")
        status, document = await client.problem()
    assert status == 500
    assert "secret" not in str(document)


async def test_an_offered_upgrade_is_ignored(server: Server) -> None:
    async with server.client() as client:
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        assert (await client.response())[0] == 200


async def test_requests_behind_a_chunked_body_are_answered_or_the_connection_ends(
    server: Server,
) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    async with server.client() as client:
        await client.send(chunked * 100)
        assert (await client.response())[2] == b"1"
        assert await client.ended() == b""
    async with server.client() as client:
        for _ in range(3):
            await client.send(chunked)
            assert (await client.response())[2] == b"1"


@pytest.mark.parametrize("path", ["/", "/early"])
async def test_other_requests_have_their_turn_while_a_body_comes_in_tiny_chunks(
    server: Server, path: str
) -> None:
    """Once, two such clients made everybody wait for more than a second."""
    count = 60_000
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    async with server.client() as client:

        async def answered() -> list[bytes]:
            await client.send(head + b"1\r\nx\r\n" * count + b"0\r\n\r\n")
            first = (await client.response())[2]
            await client.send(post(3) + b"abc")
            return [first, (await client.response())[2]]

        turns, answers = 0, asyncio.create_task(answered())
        while not answers.done():
            turns += 1
            await asyncio.sleep(0)
    assert answers.result() == [b"too large" if path == "/early" else b"%d" % count, b"3"]
    assert turns > 30  # 360 KB are 45 pieces, and few of them come at once.
