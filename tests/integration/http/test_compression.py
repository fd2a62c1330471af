"""Answers are compressed for those who accept it, and streams of events never."""

import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
import zstandard

pytestmark = pytest.mark.asyncio(loop_scope="module")

DECODERS: dict[str | None, Callable[[bytes], bytes]] = {
    "gzip": lambda body: zlib.decompress(body, wbits=31),
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    None: lambda body: body,
}
LONG, SHORT = "/v1/devices?limit=1000", "/v1/devices?limit=1"
EXPORT = "/v1/export?format=csv"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(http_of_the_file: httpx.AsyncClient) -> httpx.AsyncClient:
    """Its fleet has 300 devices; a list of them is too large to be compressed on the event loop."""
    events = [{"device_id": f"d{n:03}", "metrics": {"temp": n}} for n in range(300)]
    response = await http_of_the_file.post("/v1/events/batch", json=events)
    assert response.status_code == 200
    return http_of_the_file


async def fetch(
    http: httpx.AsyncClient, path: str, accepted: str | None, method: str = "GET"
) -> tuple[httpx.Headers, bytes]:
    """The head, and the body as it came."""
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    request = http.build_request(method, path, headers=headers)
    if accepted is None:
        del request.headers["Accept-Encoding"]
    response = await http.send(request, stream=True)
    body = b"".join([piece async for piece in response.aiter_raw()])
    await response.aclose()
    return response.headers, body


async def test_a_long_answer_has_the_encoding_that_the_client_likes_best(
    http: httpx.AsyncClient,
) -> None:
    _, plain = await fetch(http, LONG, None)
    assert len(plain) > 100_000
    for accepted, encoding in (
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("GZIP ; q=0.8", "gzip"),
        ("gzip;q=nonsense", None),
    ):
        headers, body = await fetch(http, LONG, accepted)
        assert headers.get("content-encoding") == encoding, accepted
        assert int(headers["content-length"]) == len(body)
        assert headers["vary"] == "Accept-Encoding"
        assert DECODERS[encoding](body) == plain
        assert encoding is None or len(body) < len(plain) / 5


async def test_a_short_answer_is_not_compressed(http: httpx.AsyncClient) -> None:
    headers, body = await fetch(http, SHORT, "gzip")
    assert "content-encoding" not in headers
    assert len(body) == int(headers["content-length"]) < 1024


async def test_head_answers_the_headers_of_the_compressed_body(http: httpx.AsyncClient) -> None:
    got, _ = await fetch(http, LONG, "gzip")
    asked, body = await fetch(http, LONG, "gzip", "HEAD")
    assert (dict(asked), body) == (dict(got), b"")


async def test_a_text_file_is_compressed_while_it_is_sent_and_parquet_is_not(
    http: httpx.AsyncClient,
) -> None:
    _, plain = await fetch(http, EXPORT, None)
    for encoding in ("gzip", "zstd"):
        headers, body = await fetch(http, EXPORT, encoding)
        assert headers["content-encoding"] == encoding
        assert "content-length" not in headers
        assert DECODERS[encoding](body) == plain
    headers, body = await fetch(http, "/v1/export?format=parquet", "gzip")
    assert "content-encoding" not in headers
    assert body.startswith(b"PAR1")


async def test_answers_to_posts_are_compressed_too(http: httpx.AsyncClient) -> None:
    events: list[dict[str, Any]] = [
        {"event_id": f"e{n}", "device_id": "a", "metrics": {"x": 1}} for n in range(100)
    ]
    headers = {"Accept-Encoding": "gzip"}
    posted = await http.post("/v1/events/batch", json=events, headers=headers)
    assert posted.headers["content-encoding"] == "gzip"
    assert len(posted.json()) == 100


async def test_a_stream_of_events_is_never_compressed(http: httpx.AsyncClient) -> None:
    headers, body = await fetch(http, "/v1/alerts/stream", "gzip, zstd", "HEAD")
    assert "content-encoding" not in headers
    assert "vary" not in headers
    assert body == b""
