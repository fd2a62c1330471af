"""Server-sent events (WHATWG HTML 9.2): alerts and presence as they are committed."""

from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial
from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, HeaderParameter, QueryParameter
from litestar.response import Stream

from api.auth.authenticator import Authenticator
from api.auth.caller import caller
from api.feed import KEPT_ITEMS_MAX, FeedReader
from api.http.held_resources import held_resources, resources_until_sent
from api.middleware.head import is_head
from api.middleware.slow_clients import disconnect_slow_clients
from runtime.errors import InvalidRequest
from schema.alert import AlertState
from schema.feed import FeedItem

HEARTBEAT_S = 15.0
SEND_S_MAX = 20.0  # A client that reads nothing for that long is disconnected and may resume.
MEDIA_TYPE = "text/event-stream"
NAMED_STATES = {AlertState.ACKNOWLEDGED, AlertState.RESOLVED}  # They are the types of their events.
STILL_HERE = b": still here\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_RESUME = "Resume after this id, without gaps or repeats; empty: from now on"
LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", description=_RESUME)]
# Clients that cannot set headers use one of these two names, as libraries do.
LastEventIdInQuery = Annotated[
    str | None, QueryParameter(name="last_event_id", description=_RESUME)
]
LastEventIdOfPolyfill = Annotated[
    str | None, QueryParameter(name="lastEventId", description=_RESUME)
]


@get(
    "/v1/alerts/stream",
    summary="Alerts as they are committed (server-sent events)",
    description="Violations have the default event type, resolved incidents the type `resolved`.",
    media_type="text/event-stream",
    middleware=[resources_until_sent, disconnect_slow_clients(SEND_S_MAX)],
    tags=["Alerts"],
)
async def alert_stream(
    request: Request[Any, Any, Any],
    feed: NamedDependency[FeedReader],
    authenticator: NamedDependency[Authenticator | None],
    device_id: FromQuery[str | None] = None,
    last_event_id: LastEventId = None,
    in_query: LastEventIdInQuery = None,
    of_polyfill: LastEventIdOfPolyfill = None,
) -> Stream:
    position = first_position(last_event_id, in_query, of_polyfill)
    return await _stream(request, feed, authenticator, "alert", device_id, position)


@get(
    "/v1/presence/stream",
    summary="Changes of presence as they are committed (server-sent events)",
    media_type="text/event-stream",
    middleware=[resources_until_sent, disconnect_slow_clients(SEND_S_MAX)],
    tags=["Devices"],
)
async def presence_stream(
    request: Request[Any, Any, Any],
    feed: NamedDependency[FeedReader],
    authenticator: NamedDependency[Authenticator | None],
    device_id: FromQuery[str | None] = None,
    last_event_id: LastEventId = None,
    in_query: LastEventIdInQuery = None,
    of_polyfill: LastEventIdOfPolyfill = None,
) -> Stream:
    position = first_position(last_event_id, in_query, of_polyfill)
    return await _stream(request, feed, authenticator, "presence", device_id, position)


async def _stream(
    request: Request[Any, Any, Any],
    feed: FeedReader,
    authenticator: Authenticator | None,
    kind: str,
    device_id: str | None,
    position: Callable[[int], int],
) -> Stream:
    """Fix the position in the feed before the headers are sent: later commits are all streamed."""

    def matches(item: FeedItem) -> bool:
        return item.kind == kind and device_id in {None, item.device_id}

    if is_head(request.scope):
        return Stream((), media_type=MEDIA_TYPE, headers=HEADERS)
    held_resources(request.scope).enter_context(feed.stream_slot(holder()))
    after = position(await feed.newest())
    frames = _frames(feed, after, matches, may_go_on(authenticator))
    return Stream(frames, media_type=MEDIA_TYPE, headers=HEADERS)


def holder() -> str | None:
    credential = caller().credential
    return None if credential is None else credential.actor


def may_go_on(authenticator: Authenticator | None) -> Callable[[], bool]:
    """Whether the credential that began a stream is still valid."""
    found = caller()
    if authenticator is None or found.credential is None:
        return lambda: True
    return partial(authenticator.keys.is_valid, found.credential, found.session)


async def _frames(
    feed: FeedReader,
    after: int,
    matches: Callable[[FeedItem], bool],
    may_go_on: Callable[[], bool],
) -> AsyncIterator[bytes]:
    async for items in feed.follow(after, matches, HEARTBEAT_S, may_go_on):
        yield b"".join(map(frame, items)) if items else STILL_HERE


@lru_cache(KEPT_ITEMS_MAX)
def frame(item: FeedItem) -> bytes:
    event = b"event: %b\n" % item.state.encode() if item.state in NAMED_STATES else b""
    return b"id: %d\n%bdata: %b\n\n" % (item.id, event, item.body)


def first_position(*last_event_ids: str | None) -> Callable[[int], int]:
    """After which number of the feed a stream begins, by the newest one. Raises InvalidRequest.

    The first id that is not empty counts.
    """
    given = next(filter(None, last_event_ids), None)
    if given is None:
        return lambda newest: newest
    return partial(min, _number(given))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004  # Fits a bigint.
        raise InvalidRequest(
            "Last-Event-ID: it must be the id of an event of this stream, a number."
        )
    return int(text)
