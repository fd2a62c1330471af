"""What a handler holds for a streamed response, released when the response ends."""

from contextlib import ExitStack

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.http.scopes import HTTP
from runtime.errors import innermost

RESOURCES = "resources_until_sent"

log = structlog.get_logger()


def resources_until_sent(app: ASGIApp) -> ASGIApp:
    """Middleware: the resources that the handler holds are released when the response ends, even unread.

    A failure after the headers closes the connection without the last chunk (RFC 9112 section 8), so that
    no client takes a part for the whole.
    """

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_record(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with ExitStack() as stack:
            if scope["type"] == HTTP:
                scope["state"][RESOURCES] = stack
            try:
                await app(scope, receive, send_and_record)
            except Exception as error:
                if not started:
                    raise
                log.warning("A streamed response was aborted.", error=repr(_root_cause(error)))

    return middleware


def held_resources(scope: Scope) -> ExitStack:
    """The stack that a handler behind `resources_until_sent` puts its resources on."""
    resources: ExitStack = scope["state"][RESOURCES]
    return resources


def _root_cause(error: BaseException) -> BaseException:
    """The original error, without the groups and causes around it."""
    error = innermost(error)
    while error.__cause__ is not None:
        error = innermost(error.__cause__)
    return error
