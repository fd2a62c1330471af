"""Middleware that decides, before the body is read, whether the caller may do what the route does."""

from collections.abc import Callable
from functools import lru_cache

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from api.auth.authenticator import SHOW_A_KEY, Authenticator
from api.auth.caller import Caller, set_caller
from api.auth.rights import needed
from api.http.problems import send_problem
from api.http.scopes import HTTP
from runtime.errors import Forbidden, NotAuthenticated, VoltwireError

STRANGERS_MAX = 256  # Cached callers: the requests of a connection come from one address.


def authorized(authenticator: Authenticator) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware behind the routing: the route is known, as is that of a post on the fast path."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != HTTP:
                await app(scope, receive, send)
                return
            try:
                found = authenticator.identify(scope)
                _require_rights(scope, found)
            except VoltwireError as error:
                await send_problem(error, scope, receive, send)
                return
            set_caller(found)
            await app(scope, receive, send)

        return guarded

    return middleware


def unauthenticated(app: ASGIApp) -> ASGIApp:
    """Middleware while authentication is off: only the address of the caller is known."""

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == HTTP:
            client = scope["client"]
            set_caller(_stranger(None if client is None else client[0]))
        await app(scope, receive, send)

    return noted


@lru_cache(STRANGERS_MAX)
def _stranger(address: str | None) -> Caller:
    return Caller(address)


def _require_rights(scope: HTTPScope, found: Caller) -> None:
    need = needed(scope["method"], scope["path_template"])
    if need.nothing:
        return
    if found.credential is None:
        raise NotAuthenticated(SHOW_A_KEY)
    if not need.is_met_by(found.credential):
        raise Forbidden(f"This needs {need}.")
