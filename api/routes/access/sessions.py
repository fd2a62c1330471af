"""The session of a browser: a cookie in place of a key, which no script of the page can read."""

from typing import Annotated, Any

from litestar import Request, Response, delete, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from pydantic import BaseModel, ConfigDict, Field

from api.auth.authenticator import COOKIE, SECURE_COOKIE, Authenticator, require_same_origin
from api.auth.caller import Caller, caller, set_caller
from api.http.bodies import operation_with_body, read_body
from api.store.credentials import CredentialStore
from runtime.addresses import is_loopback
from runtime.errors import Conflict, Forbidden, NotAuthenticated
from runtime.settings import Settings
from schema.access.secrets import CredentialKind, is_well_formed
from schema.access.sessions import SESSION_S

UNKNOWN_KEY = "There is no such key here: it was revoked, or belongs to another installation."
MISTYPED_KEY = "This is not a whole key: it is mistyped, or a part of it is missing."


class SessionBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, Field(min_length=1, max_length=128)]


@post(
    "/v1/session",
    operation_class=operation_with_body(SessionBody.model_json_schema()),
    summary="Begin the session of a browser",
    description="The cookie stands for the key for 12 hours, and ends with it.",
    tags=["Access"],
)
async def begin_session(
    request: Request[Any, Any, Any],
    credentials: NamedDependency[CredentialStore],
    authenticator: NamedDependency[Authenticator | None],
    settings: NamedDependency[Settings],
) -> Response[dict[str, Any]]:
    _require_no_foreign_page(request)
    body = await read_body(request, SessionBody)
    if authenticator is None:
        raise Conflict("Authentication is off: every request is answered without a session.")
    address = caller().address
    try:
        key = authenticator.credential_of(body.key.encode(), address, "/v1/session")
    except NotAuthenticated as error:
        raise NotAuthenticated(UNKNOWN_KEY if is_well_formed(body.key) else MISTYPED_KEY) from error
    if key.kind is not CredentialKind.KEY:
        raise Forbidden("A session needs a key (vwk_…); this is the secret of a device.")
    set_caller(Caller(address, key))
    token = await credentials.begin_session(key)
    shown = {"key": key.name, "scopes": sorted(key.scopes), "expires_in_s": SESSION_S}
    return Response(shown, status_code=201, cookies=[_cookie(request, settings, token, SESSION_S)])


@delete(
    "/v1/session",
    summary="End the session of this browser",
    description="Without one, nothing happens.",
    tags=["Access"],
)
async def end_session(
    request: Request[Any, Any, Any],
    credentials: NamedDependency[CredentialStore],
    settings: NamedDependency[Settings],
) -> Response[None]:
    token_digest = caller().session
    if token_digest is not None:
        await credentials.end_session(token_digest)
    return Response(None, status_code=204, cookies=[_cookie(request, settings, "", 0)])


def _require_no_foreign_page(request: Request[Any, Any, Any]) -> None:
    """Another site must not put its own key in place of the visitor's. Programs send neither header."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        require_same_origin(request.scope)


def _cookie(
    request: Request[Any, Any, Any], settings: Settings, token: str, seconds: int
) -> Cookie:
    secure = request.scope["scheme"] == "https" or not is_loopback(settings.http_host)
    return Cookie(
        SECURE_COOKIE if secure else COOKIE,
        value=token,
        max_age=seconds,
        httponly=True,
        secure=secure,
        samesite="strict",
    )
