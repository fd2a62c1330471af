"""Routes that one API after the other uses: to build them takes a sixth of a second of CPU.

What they hold of an API are its services; those that the routes hold from the beginning are forwarded here.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from litestar import Litestar
from litestar.types import ASGIApp, Scope

from api.app import create_litestar, with_fast_path
from api.services import Services
from runtime.settings import Settings


class Current:
    """The services of the API that uses the routes just now."""

    def __init__(self, *, authenticated: bool) -> None:
        authenticator = Authenticator(self) if authenticated else None
        self.services: Any = SimpleNamespace(
            request_seconds=Seconds(self), authenticator=authenticator, worker=None
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.services, name)


class Authenticator(NamedTuple):
    current: Current

    def identify(self, scope: Scope) -> Any:
        return self.current.services.authenticator.identify(scope)


class Seconds(NamedTuple):
    current: Current

    def labels(self, *values: str) -> "Observer":
        return Observer(self.current, values)


class Observer(NamedTuple):
    current: Current
    labels: tuple[str, ...]

    def observe(self, seconds: float) -> None:
        self.current.services.request_seconds.labels(*self.labels).observe(seconds)


@contextmanager
def application(settings: Settings, services: Services) -> Iterator[ASGIApp]:
    """As `create_app` makes it."""
    unused = _unused()[repr(settings.model_dump(exclude={"database_url"}))]
    routes, current = unused.pop() if unused else _build(settings)
    current.services = services
    yield with_fast_path(routes, settings, services)
    unused.append((routes, current))


def _build(settings: Settings) -> tuple[Litestar, Current]:
    current = Current(authenticated=settings.authenticated)
    return create_litestar(settings, cast("Services", current)), current


@cache
def _unused() -> dict[str, list[tuple[Litestar, Current]]]:
    """By what the routes are built with: those that no API uses."""
    return defaultdict(list)
