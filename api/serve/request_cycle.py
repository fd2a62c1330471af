"""One request and its response, and the transport below it, as the HTTP protocol gives them to uvicorn."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import structlog
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from api.http.problems import PROBLEM, problem_body

log = structlog.get_logger()

HEADS_MAX = 256  # Cached; few responses to posts differ in their heads.
JOINED_BYTES_MAX = 64 * 1024  # A larger body is not copied behind its head.
_ORDINARY = {b"content-type", b"content-length", b"vary"}

Headers = tuple[tuple[bytes, bytes], ...]


class _Head(NamedTuple):
    text: bytes
    content_length: int


@lru_cache(HEADS_MAX)
def _ordinary_head(status: int, of_server: Headers, headers: Headers) -> _Head | None:
    """The head of a response of known length, after which the connection stays; None for any other.

    The headers of the server hold the time, so a cached head is used for a second.
    """
    names = [name.lower() for name, _ in headers]
    if names.count(b"content-length") != 1 or not _ORDINARY.issuperset(names):
        return None
    if any(HEADER_VALUE_RE.search(value) for _, value in headers):
        return None
    pairs = [*of_server, *((name.lower(), value) for name, value in headers)]
    lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % pair for pair in pairs), b"\r\n"]
    return _Head(b"".join(lines), int(headers[names.index(b"content-length")][1]))


def _raising(error: BaseException) -> Callable[..., Awaitable[None]]:
    async def app(*_: Any) -> None:
        raise error

    return app


async def _returning(*_: Any) -> None:
    pass


class ClosesGently(Protocol):
    """A protocol that ends its connection so that what it has sent arrives."""

    @property
    def discarding(self) -> bool: ...

    def close_gently(self) -> None: ...


class RequestCycle(RequestResponseCycle):
    """One request and its response."""

    _head = b""  # It waits for the body.

    async def send(self, message: Any) -> None:
        """Like uvicorn, which checks every header of every response; an ordinary head skips that."""
        if self._head:
            if not self._write_whole_body(message):
                await super().send(self._behind_its_head(message))
        elif self.response_started or not self._keep_ordinary_head(message):
            await super().send(message)

    def _keep_ordinary_head(self, message: Any) -> bool:
        """Whether the message is one, and was kept."""
        if message["type"] != "http.response.start" or not self.keep_alive:
            return False
        headers = tuple(message.get("headers", ()))
        head = _ordinary_head(message["status"], tuple(self.default_headers), headers)
        if head is None or self.disconnected or self.scope["method"] == "HEAD":
            return False
        self.response_started, self.waiting_for_100_continue = True, False
        self.chunked_encoding, self.expected_content_length = False, head.content_length
        self._head = head.text
        return True

    def _write_whole_body(self, message: Any) -> bool:
        """Whether the message is the whole body, as of nearly every post, and was written with its head."""
        body = message.get("body", b"")
        if len(body) != self.expected_content_length or len(body) > JOINED_BYTES_MAX:
            return False
        if message.get("more_body") or self.disconnected or self.flow.write_paused:
            return False
        self.transport.write(self._head + body)
        self._head, self.expected_content_length, self.response_complete = b"", 0, True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True

    def _behind_its_head(self, message: Any) -> Any:
        """The first piece of a body with the head before it, or written after it if it is large."""
        head, self._head = self._head, b""
        body = message.get("body", b"")
        if len(body) > JOINED_BYTES_MAX:
            if not self.disconnected:
                self.transport.write(head)
            return message
        self.expected_content_length += len(head)
        return {**message, "body": head + body}

    async def run_asgi(self, app: Any) -> None:
        """As uvicorn does; only that a client which leaves is no fault."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001  # uvicorn's turn, as for any other.
            if self.disconnected:
                log.debug("A client left before its response was complete.", error=repr(error))
            else:
                await super().run_asgi(_raising(error))
        else:
            if not self.response_complete and not self.disconnected:
                await super().run_asgi(_returning)

    async def send_500_response(self) -> None:
        body = problem_body(
            HTTPStatus.INTERNAL_SERVER_ERROR, "This is a fault of the server; its log says more."
        )
        headers = [
            (b"content-type", PROBLEM.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class OldRequestCycle(RequestCycle):
    """A request of HTTP/1.0, whose client cannot read chunks."""

    async def send(self, message: Any) -> None:
        self._end_with_the_connection(message)
        await super().send(message)

    def _end_with_the_connection(self, message: Any) -> None:
        """Keep uvicorn from chunks: it takes each piece as the whole of what was announced."""
        if message["type"] == "http.response.start":
            if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                self.chunked_encoding = False
        elif self.chunked_encoding is False and self.expected_content_length == 0:
            self.expected_content_length = len(message.get("body", b""))


class GentleTransport:
    """The transport as uvicorn uses it; closing it lets the response arrive first."""

    def __init__(self, transport: asyncio.Transport, protocol: ClosesGently) -> None:
        self._transport, self._protocol = transport, protocol
        self.write = transport.write
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading
        self.get_extra_info = transport.get_extra_info

    def is_closing(self) -> bool:
        return self._protocol.discarding or self._transport.is_closing()

    def close(self) -> None:
        self._protocol.close_gently()


def refusal(status: HTTPStatus, detail: str, *headers: tuple[bytes, bytes]) -> bytes:
    """A whole response in place of the application's: a problem document, after which the connection ends."""
    body = problem_body(status, detail)
    lines = [
        STATUS_LINE[status],
        *(b"%b: %b\r\n" % header for header in headers),
        b"content-type: %b\r\n" % PROBLEM.encode(),
        b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
        body,
    ]
    return b"".join(lines)
