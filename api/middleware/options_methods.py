"""OPTIONS of paths: Litestar would list only the methods of the first handler, and no HEAD (head.py)."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from litestar import HttpMethod, Response, route
from litestar.handlers import HTTPRouteHandler


def options_handlers(handlers: Sequence[Any]) -> list[HTTPRouteHandler]:
    """Register these before the other handlers, or Litestar adds its own."""
    methods: dict[str, set[str]] = defaultdict(set)
    for handler in handlers:
        if isinstance(handler, HTTPRouteHandler):
            for path in handler.paths:
                methods[path].update(handler.http_methods)
    return [_options(path, names) for path, names in methods.items()]


def _options(path: str, methods: set[str]) -> HTTPRouteHandler:
    head = {HttpMethod.HEAD} if HttpMethod.GET in methods else set()
    allow = ", ".join(sorted({*methods, *head, HttpMethod.OPTIONS}))

    @route(
        path,
        http_method=[HttpMethod.OPTIONS],
        status_code=204,
        include_in_schema=False,
        sync_to_thread=False,
    )
    def options() -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allow})

    return options
