"""Errors as RFC 9457 problem details: the only file that maps errors to status codes."""

import re
from http import HTTPStatus
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Receive, Scope, Send

from api.http.params import query_names
from runtime.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    RawEventsDropped,
    StoreUnavailable,
    TooManyRequests,
    UnsupportedMediaType,
    VoltwireError,
)
from runtime.plain_words import plain
from schema.database import DATABASE_ERRORS
from schema.instants import rfc3339

PROBLEM = "application/problem+json"
RETRY_AFTER_S = 1
CHALLENGE = 'Bearer realm="voltwire"'

log = structlog.get_logger()

_ABSENT = re.compile(r"Missing required \w+ parameter '(\w+)' for path ")
_STATUS: dict[type[VoltwireError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    RawEventsDropped: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    Conflict: HTTPStatus.CONFLICT,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    PayloadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

# A missing grant or schema is for the operator to fix; any other error of this class is a bug in Voltwire.
_OPERATOR_ERRORS = (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)


def problem_body(status: int, detail: str) -> bytes:
    """A problem document for those who answer without Litestar."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": int(status), "detail": detail}
    )


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, **members: Any
) -> Response[dict[str, Any]]:
    """`members` are the extension members of RFC 9457 section 3.2; empty ones are left out."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    body |= {name: value for name, value in members.items() if value}
    return Response(body, status_code=status, media_type=PROBLEM, headers=headers)


def voltwire_problem(
    request: Request[Any, Any, Any], error: VoltwireError
) -> Response[dict[str, Any]]:
    status = _STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    wait_s = getattr(error, "retry_after_s", None)
    if wait_s is None and status is HTTPStatus.SERVICE_UNAVAILABLE:
        wait_s = RETRY_AFTER_S
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = CHALLENGE
    detail = str(error)
    if isinstance(error, StoreUnavailable):
        detail = "The database is unavailable; retry."
        if request.method not in {"GET", "HEAD"}:
            detail = "The database is unavailable; the outcome is unknown: retry the request."
    members = {name: getattr(error, name, None) for name in ("reason", "errors")}
    if isinstance(error, RawEventsDropped):
        members["available_from"] = rfc3339(error.available_from)
    return problem(status, detail, headers, **members)


def http_problem(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Litestar's own errors; a value of the wrong type for its parameter answers 422."""
    if isinstance(error, ValidationException):
        errors = _faults(request, error)
        named = "; ".join(f"{fault['field']}: {fault['message']}" for fault in errors)
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, named or error.detail, errors=errors)
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("A request failed unexpectedly.", path=request.url.path, exc_info=error)
    detail = error.detail
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = "The body is larger than this route accepts: send it in smaller parts."
    headers = dict(error.headers or {})
    if "GET" in headers.get("allow", ""):
        headers["allow"] += ", HEAD"
    return problem(error.status_code, detail, headers)


def _faults(request: Request[Any, Any, Any], error: ValidationException) -> list[dict[str, str]]:
    """Litestar lists the parameters with wrong values; an absent one is only in its sentence."""
    if absent := _ABSENT.match(error.detail):
        return [{"field": absent[1], "message": "required"}]
    public = query_names(request)
    return [
        {
            "field": public.get(name := str(fault.get("key", "")), name),
            "message": plain(str(fault.get("message", ""))),
        }
        for fault in (error.extra if isinstance(error.extra, list) else [])
    ]


def database_problem(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """PostgreSQL did not answer a query: too expensive, invalid, or the server is unreachable."""
    if isinstance(error, asyncpg.QueryCanceledError | asyncpg.ProgramLimitExceededError):
        return voltwire_problem(
            request,
            InvalidRequest("The query takes too long; request a shorter range."),
        )
    if isinstance(error, asyncpg.SyntaxOrAccessError) and not isinstance(error, _OPERATOR_ERRORS):
        return unexpected_problem(request, error)
    if isinstance(error, asyncpg.DataError | ValueError):
        return voltwire_problem(
            request, InvalidRequest("A value is out of the range of the database.")
        )
    log.warning(
        "A query failed: the database is unavailable.", path=request.url.path, error=repr(error)
    )
    return voltwire_problem(request, StoreUnavailable(str(error)))


def unexpected_problem(
    request: Request[Any, Any, Any], error: Exception
) -> Response[dict[str, Any]]:
    """Any other error: it is logged in full, and the response reveals nothing of it."""
    log.error("A request failed unexpectedly.", path=request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed unexpectedly; see its log.")


EXCEPTION_HANDLERS: dict[Any, Any] = {
    VoltwireError: voltwire_problem,
    HTTPException: http_problem,
    **dict.fromkeys(DATABASE_ERRORS, database_problem),
    Exception: unexpected_problem,
}


def problem_of(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    handler = next(
        EXCEPTION_HANDLERS[kind] for kind in type(error).mro() if kind in EXCEPTION_HANDLERS
    )
    response: Response[dict[str, Any]] = handler(request, error)
    return response


async def send_problem(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the handler of the error, for a request that does not go through Litestar."""
    request: Request[Any, Any, Any] = Request(scope)
    response = problem_of(request, error).to_asgi_response(app=None, request=request)
    await response(scope, receive, send)


async def send_refusal(status: HTTPStatus, detail: str, send: Send) -> None:
    """A problem document of a middleware, which answers before Litestar."""
    body = problem_body(status, detail)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
