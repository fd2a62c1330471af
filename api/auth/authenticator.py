"""From the headers of a request to the caller. Nothing here waits, and no body is read."""

from litestar.types import HTTPScope

from api.auth.caller import Caller
from api.auth.failed_logins import FailedLogins
from api.auth.keys import Keys
from api.auth.rights import READING
from api.middleware.browser_origins import host_of
from runtime.errors import Forbidden, NotAuthenticated, Overloaded
from schema.access.credentials import Credential
from schema.access.secrets import digest

BEARER = b"bearer "
# `__Host-` makes browsers insist on Secure and on this host; without TLS it cannot be used.
COOKIE, SECURE_COOKIE = "voltwire_session", "__Host-voltwire_session"
_COOKIES = (COOKIE.encode(), SECURE_COOKIE.encode())
SHOW_A_KEY = (
    "Show a valid key, or the secret of a device, as Authorization: Bearer …; voltwire key create and"
    " voltwire device add make them."
)


class Authenticator:
    """One per process with authentication on; api/auth/upkeep.py keeps its `keys` current."""

    def __init__(self) -> None:
        self.keys, self.failed = Keys(), FailedLogins()

    def identify(self, scope: HTTPScope) -> Caller:
        """The caller; a stranger without a credential. A header takes precedence over a cookie.

        Raises NotAuthenticated for a wrong secret, TooManyRequests after several, Overloaded before the
        credentials were read, Forbidden for a change that another site makes with a cookie.
        """
        shown: list[bytes] = []
        cookies = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                shown.append(value)
            elif name == b"cookie":
                cookies = value
        client = scope["client"]
        address = None if client is None else client[0]
        if shown:
            secret = _secret_of(shown)
            return Caller(address, self.credential_of(secret, address, scope["path_template"]))
        if b"voltwire_session=" in cookies:
            return self._caller_with_cookie(scope, address, cookies)
        return Caller(address)

    def credential_of(self, secret: bytes, address: str | None, route: str) -> Credential:
        """The credential of a secret; a wrong one is counted. Raises like `identify`."""
        found = self.keys.find(secret)
        if found is None:
            if not self.keys.were_read:
                raise Overloaded("The credentials are not read from the database yet; retry.")
            self.failed.note(address, route)
            raise NotAuthenticated(SHOW_A_KEY)
        return found

    def _caller_with_cookie(self, scope: HTTPScope, address: str | None, cookies: bytes) -> Caller:
        """A cookie without a session is as good as none: its session has ended."""
        token = digest(_session_token(cookies))
        credential = self.keys.find_session(token)
        if credential is None:
            return Caller(address)
        if scope["method"] not in READING:
            require_same_origin(scope)
        return Caller(address, credential, token)


def require_same_origin(scope: HTTPScope) -> None:
    """A browser says where a request comes from. Raises Forbidden if that is not a page of this server."""
    sent = dict(scope["headers"])
    origin = sent.get(b"origin", b"").decode("latin-1")
    site = sent.get(b"sec-fetch-site")
    host = sent.get(b"host", b"").decode("latin-1").lower()
    same_host = bool(host) and host_of(origin) == host
    if site != b"same-origin" and not (site is None and same_host):
        raise Forbidden(
            "A change with the session of a browser must come from a page of this server."
        )


def _secret_of(shown: list[bytes]) -> bytes:
    """Empty, which is never right, for another scheme and for several headers."""
    value = shown[0]
    if len(shown) > 1 or value[: len(BEARER)].lower() != BEARER:
        return b""
    return value[len(BEARER) :].strip(b" ")


def _session_token(cookies: bytes) -> bytes:
    for part in cookies.split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name in _COOKIES:
            return value
    return b""
