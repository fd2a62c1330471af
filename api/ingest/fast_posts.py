"""The fast path: ordinary posts are answered before Litestar (docs/decisions/0021-http-posts-fast-path.md).

A post is on the fast path if it is JSON without a query, has a Content-Length within the limit, and repeats
no header. All other requests pass on unchanged: Litestar has the same handlers
(api/routes/events/posts.py), and it alone refuses requests before their body is read.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from api.http.bodies import is_json
from api.http.problems import send_problem
from api.http.scopes import HTTP
from api.middleware.compression import BYTES_MIN, compressing

LENGTH_DIGITS_MAX = 10  # Content-Length: int() raises on thousands of digits.


@dataclass(frozen=True, slots=True)
class FastPath:
    """`respond` turns a body into the JSON response, or raises an error that api/http/problems.py maps."""

    respond: Callable[[bytes], Awaitable[object]]
    body_bytes_max: int


def fast_path_first(
    app: ASGIApp, posts: Mapping[str, FastPath], middleware: Sequence[Callable[[ASGIApp], ASGIApp]]
) -> ASGIApp:
    """`posts` by path. `middleware`, the outermost first, wraps them as it wraps `app`."""
    handlers = {path: _behind(middleware, _answering(post)) for path, post in posts.items()}

    async def first(scope: Scope, receive: Receive, send: Send) -> None:
        post = posts.get(scope["path"]) if scope["type"] == HTTP else None
        if scope["type"] == HTTP and post is not None and _is_fast(scope, post):
            scope["path_template"] = scope["path"]
            await handlers[scope["path"]](scope, receive, send)
        else:
            await app(scope, receive, send)

    return first


def _is_fast(scope: HTTPScope, post: FastPath) -> bool:
    pairs = list(scope["headers"])
    headers = dict(pairs)
    length = headers.get(b"content-length", b"")
    return (
        scope["method"] == "POST"
        and not scope["query_string"]
        and is_json(headers.get(b"content-type", b"").decode("latin-1"))
        and length.isdigit()
        and len(length) <= LENGTH_DIGITS_MAX
        and int(length) <= post.body_bytes_max
        and b"content-encoding" not in headers
        and len(headers) == len(pairs)
    )


def _behind(middleware: Sequence[Callable[[ASGIApp], ASGIApp]], app: ASGIApp) -> ASGIApp:
    for wrap in reversed(middleware):
        app = wrap(app)
    return app


def _answering(post: FastPath) -> ASGIApp:
    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        body = await _whole_body(receive)
        if body is None:
            return  # The client has disconnected.
        try:
            response = msgspec.json.encode(await post.respond(body))
        except Exception as error:  # noqa: BLE001  # Handled as Litestar would.
            await send_problem(error, scope, receive, send)
        else:
            await _send_json(response, scope, send)

    return answering


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, None if the client disconnects; the server enforces its Content-Length."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message["body"])
        if not message["more_body"]:
            return b"".join(chunks)


async def _send_json(body: bytes, scope: Scope, send: Send) -> None:
    """Only long responses can gain from compression, and only batches have them."""
    if len(body) >= BYTES_MIN and scope["type"] == HTTP:
        send = compressing(scope, send)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
