"""One request and its response, and the transport below it, as the HTTP protocol gives them to uvicorn."""

import asyncio
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.http.problems import PROBLEM, problem_body

log = structlog.get_logger()


class ClosesGently(Protocol):
    """A protocol that ends its connection so that what it has sent arrives."""

    @property
    def discarding(self) -> bool: ...

    def close_gently(self) -> None: ...


class RequestCycle(RequestResponseCycle):
    """One request and its answer."""

    async def run_asgi(self, app: Any) -> None:
        async def until_the_client_leaves(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except BaseException as error:
                if not self.disconnected:
                    raise
                log.debug("A client left before its answer was complete.", error=repr(error))

        await super().run_asgi(until_the_client_leaves)

    async def send(self, message: Any) -> None:
        if self.scope["http_version"] == "1.0":
            self._end_with_the_connection(message)
        await super().send(message)

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

    def _end_with_the_connection(self, message: Any) -> None:
        """Keep uvicorn from chunks: it takes each piece as the whole of what was announced."""
        if message["type"] == "http.response.start":
            if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                self.chunked_encoding = False
        elif self.chunked_encoding is False and self.expected_content_length == 0:
            self.expected_content_length = len(message.get("body", b""))


class GentleTransport:
    """The transport as uvicorn uses it; closing it lets the answer arrive first."""

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
