"""HEAD wherever there is GET: the same response without its content (RFC 9110, 9.3.2)."""

from typing import cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.http.scopes import HTTP

ASKED_FOR_HEAD = "voltwire.head"  # The key that the scope of a HEAD request has.


def head_as_get(app: ASGIApp) -> ASGIApp:
    """Middleware: the application sees GET; to it, the client leaves behind the headers."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != HTTP or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        seen = cast("Scope", {**scope, "method": "GET", ASKED_FOR_HEAD: True})
        await app(seen, receive, send_headers)

    return middleware


def is_head(scope: Scope) -> bool:
    return ASKED_FOR_HEAD in scope
