"""Which web pages may call the API from a browser: our own, and those that CORS_ORIGINS names.

Without authentication a browser that visits a foreign page would lend it the right of its user. Requests of
such pages carry `Sec-Fetch-Site: cross-site` (W3C Fetch Metadata) or an `Origin` that is not ours (RFC 6454)
and are refused. A top-level navigation shows a page to its user and nothing to the other site: it passes for
the pages that are made to be looked at.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from litestar.config.cors import CORSConfig
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api.http.problems import send_refusal
from api.http.scopes import HTTP

EXPOSED_HEADERS = ["Link", "X-Interval", "Retry-After"]
PREFLIGHT_S = 600
_OF_BROWSERS = {b"origin", b"sec-fetch-site"}  # Programs send neither, and need no further look.
REFUSAL = "Pages of other sites are not answered; CORS_ORIGINS names those that may call this API."


def browser_origins(
    allowed: Sequence[str], *, refuse_others: bool, pages: Sequence[str]
) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware that answers `allowed` origins with CORS headers (Fetch standard, 3.2).

    `refuse_others`: requests that other sites cause are refused, except navigation to `pages`.
    """
    cors = CORSConfig(
        allow_origins=list(allowed), expose_headers=EXPOSED_HEADERS, max_age=PREFLIGHT_S
    )

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != HTTP:
                await app(scope, receive, send)
                return
            sent = dict(scope["headers"])
            if _OF_BROWSERS.isdisjoint(sent):
                await app(scope, receive, send)
                return
            origin = sent.get(b"origin", b"").decode("latin-1")
            if origin and cors.is_origin_allowed(origin):
                await _answer_allowed(app, cors, origin, sent, scope, receive, send)
            elif refuse_others and _is_foreign(scope, origin, sent, pages):
                await send_refusal(HTTPStatus.FORBIDDEN, REFUSAL, send)
            else:
                await app(scope, receive, send)

        return guarded

    return middleware


def _is_foreign(
    scope: HTTPScope, origin: str, sent: dict[bytes, bytes], pages: Sequence[str]
) -> bool:
    """Whether another site caused the request."""
    if origin and host_of(origin) != sent.get(b"host", b"").decode("latin-1").lower():
        return True
    if sent.get(b"sec-fetch-site") != b"cross-site":
        return False
    navigation = scope["method"] in {"GET", "HEAD"} and sent.get(b"sec-fetch-mode") == b"navigate"
    is_framed = sent.get(b"sec-fetch-dest", b"document") != b"document"
    return is_framed or not (navigation and scope["path"] in pages)


def host_of(origin: str) -> str:
    """Its host and port; empty for `null`. Whatever a stranger sends, this does not fail."""
    return origin.partition("://")[2].lower()


async def _answer_allowed(
    app: ASGIApp,
    cors: CORSConfig,
    origin: str,
    sent: dict[bytes, bytes],
    scope: HTTPScope,
    receive: Receive,
    send: Send,
) -> None:
    headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} | cors.simple_headers
    if scope["method"] == "OPTIONS" and b"access-control-request-method" in sent:
        headers |= cors.preflight_headers
        asked = sent.get(b"access-control-request-headers", b"").decode("latin-1")
        if asked:
            headers["Access-Control-Allow-Headers"] = asked
        await send(
            {
                "type": "http.response.start",
                "status": HTTPStatus.NO_CONTENT,
                "headers": _encoded(headers),
            }
        )
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_encoded(headers)]
        await send(message)

    await app(scope, receive, send_with_headers)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
