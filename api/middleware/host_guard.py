"""The Host guard: without authentication the API can only be reached by loopback names.

A foreign site can make its own name resolve to 127.0.0.1 (DNS rebinding), but the Host header still carries
that name. Browsers always send it; clients of HTTP/1.0 need not.
"""

import re
from functools import lru_cache
from http import HTTPStatus

from litestar.types import ASGIApp, Receive, Scope, Send

from api.http.problems import send_refusal
from api.http.scopes import HTTP
from runtime.addresses import is_loopback

REFUSAL = "Without authentication the Host must be a loopback name; see AUTH and TRUSTED_NETWORK."
HOSTS_MAX = 16  # Cached header values; there is usually one.

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")


def loopback_hosts_only(app: ASGIApp) -> ASGIApp:
    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == HTTP and not _names_loopback(scope):
            await send_refusal(HTTPStatus.MISDIRECTED_REQUEST, REFUSAL, send)
        else:
            await app(scope, receive, send)

    return middleware


def _names_loopback(scope: Scope) -> bool:
    values = [value for name, value in scope["headers"] if name == b"host"]
    if not values:
        return scope["http_version"] == "1.0"
    return len(values) == 1 and _is_loopback(values[0])


@lru_cache(HOSTS_MAX)
def _is_loopback(value: bytes) -> bool:
    """The value may include a port; an IPv6 address stands in brackets."""
    found = _HOST.fullmatch(value.decode("latin-1"))
    return found is not None and is_loopback(found[1] or found[2])
