"""Compressed responses (RFC 9110, 8.4) for clients that accept them: zstd, else gzip.

Litestar's own middleware knows one encoding at a time, compresses on the event loop, and holds back streams.
Not compressed: server-sent events, which would wait for the compressor, Parquet and other binary files, and
responses below BYTES_MIN, which fit into a packet anyway.
"""

import asyncio
import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

import zstandard
from litestar.datastructures import MutableScopeHeaders
from litestar.types import (
    ASGIApp,
    HTTPResponseStartEvent,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
)

from api.http.scopes import HTTP

BYTES_MIN = 1024
LOOP_BYTES_MAX = 32 * 1024  # More is compressed in a thread: it takes longer than 1 ms.
GZIP_LEVEL, GZIP_FORMAT, ZSTD_LEVEL = 5, 31, 3
TYPES = (
    "application/json", "application/problem+json", "application/x-ndjson", "text/csv", "text/html",
    "text/css", "text/javascript", "text/plain", "application/javascript", "image/svg+xml",
)  # fmt: skip


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


# Where a client accepts several equally, the first one is taken.
ENCODINGS: dict[str, Callable[[], Compressor]] = {
    "zstd": lambda: zstandard.ZstdCompressor(ZSTD_LEVEL).compressobj(),
    "gzip": lambda: zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FORMAT),
}


def compressed(app: ASGIApp) -> ASGIApp:
    """Middleware that compresses the bodies of responses, streamed ones a piece at a time."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == HTTP:
            await app(scope, receive, compressing(scope, send))
        else:
            await app(scope, receive, send)

    return middleware


def compressing(scope: HTTPScope, send: Send) -> Send:
    """What sends one response, compressed if its client accepts that and it is worth it."""
    return _Response(scope, send).send


def accepted_encoding(scope: HTTPScope) -> str | None:
    """The encoding that the client prefers, or None (RFC 9110, 12.5.3)."""
    header = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding")
    if not header:
        return None
    weights = dict(map(_weighted, header.decode("latin-1").lower().split(",")))
    others = weights.get("*", 0.0)
    best = max(ENCODINGS, key=lambda name: weights.get(name, others))
    return best if weights.get(best, others) > 0 else None


def _weighted(part: str) -> tuple[str, float]:
    name, _, parameter = part.partition(";")
    weight = parameter.replace(" ", "").removeprefix("q=") or "1"
    try:
        return name.strip(), float(weight)
    except ValueError:
        return name.strip(), 0.0


class _Response:
    """One response on its way to the client."""

    def __init__(self, scope: HTTPScope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._compressor: Compressor | None = None
        self._head: Message | None = None  # Waits for the length of the compressed body.

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send_head(message)
        elif message["type"] == "http.response.body" and self._compressor is not None:
            await self._send_piece(self._compressor, message["body"], more=message["more_body"])
        else:
            await self._send(message)

    async def _send_head(self, head: HTTPResponseStartEvent) -> None:
        length = _content_length(head)
        if length is None or length >= BYTES_MIN:
            headers = MutableScopeHeaders.from_message(head)
            if _may_be_compressed(headers):
                self._describe(headers)
        if self._compressor is None or length is None:
            await self._send(head)
        else:
            self._head = head

    def _describe(self, headers: MutableScopeHeaders) -> None:
        """Write what holds for the body to come, and begin to compress it if the client accepts that.

        An ETag of the original is a weak one of the compressed body (RFC 9110, 8.8.3).
        """
        headers.extend_header_value("vary", "Accept-Encoding")
        encoding = accepted_encoding(self._scope)
        if encoding is None:
            return
        self._compressor = ENCODINGS[encoding]()
        headers["content-encoding"] = encoding
        headers.pop("content-length", None)
        tag = headers.get("etag", "W/")
        if not tag.startswith("W/"):
            headers["etag"] = f"W/{tag}"

    async def _send_piece(self, compressor: Compressor, body: bytes, *, more: bool) -> None:
        step = compressor.compress if more else partial(_finished, compressor)
        in_thread = len(body) > LOOP_BYTES_MAX
        piece = await asyncio.to_thread(step, body) if in_thread else step(body)
        if self._head is not None:
            if not more:
                MutableScopeHeaders.from_message(self._head)["content-length"] = str(len(piece))
            await self._send(self._head)
            self._head = None
        await self._send({"type": "http.response.body", "body": piece, "more_body": more})


def _may_be_compressed(headers: MutableScopeHeaders) -> bool:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type in TYPES and "content-encoding" not in headers


def _content_length(head: HTTPResponseStartEvent) -> int | None:
    """None for a streamed body. Most responses are short, so nothing else is looked at before."""
    for name, value in head["headers"]:
        if name == b"content-length":
            return int(value)
    return None


def _finished(compressor: Compressor, data: bytes) -> bytes:
    return compressor.compress(data) + compressor.flush()
