"""Server-sent events (WHATWG HTML 9.2): alerts and presence as they are committed."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, HeaderParameter
from litestar.response import Stream

from api.feed import FeedReader
from api.http.slow_clients import cut_off_idle_readers
from runtime.errors import InvalidRequest
from schema.alert import AlertState
from schema.feed import FeedItem

HEARTBEAT_S = 15.0
SEND_S_MAX = 20.0  # A client that reads nothing for that long is disconnected and may resume.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID", description="Resume after this id, without gaps or repeats"
    ),
]


@get(
    "/v1/alerts/stream",
    summary="Alerts as they are committed (server-sent events)",
    description="Violations have the default event type; the others have the type acknowledged or resolved.",
    media_type="text/event-stream",
    middleware=[cut_off_idle_readers(SEND_S_MAX)],
    tags=["Alerts"],
)
async def alert_stream(
    feed: NamedDependency[FeedReader],
    device_id: FromQuery[str | None] = None,
    last_event_id: LastEventId = None,
) -> Stream:
    return await _stream(feed, "alert", device_id, last_event_id)


@get(
    "/v1/presence/stream",
    summary="Changes of presence as they are committed (server-sent events)",
    media_type="text/event-stream",
    middleware=[cut_off_idle_readers(SEND_S_MAX)],
    tags=["Devices"],
)
async def presence_stream(
    feed: NamedDependency[FeedReader],
    device_id: FromQuery[str | None] = None,
    last_event_id: LastEventId = None,
) -> Stream:
    return await _stream(feed, "presence", device_id, last_event_id)


async def _stream(
    feed: FeedReader, kind: str, device_id: str | None, last_event_id: str | None
) -> Stream:
    """Fix the position in the feed before the headers are sent: later commits are all streamed."""

    def matches(item: FeedItem) -> bool:
        return item.kind == kind and device_id in {None, item.device_id}

    newest = await feed.newest()
    after = newest if last_event_id is None else min(_number(last_event_id), newest)
    return Stream(
        _frames(feed, after, matches),
        media_type="text/event-stream",
        headers=HEADERS,
    )


async def _frames(
    feed: FeedReader, after: int, matches: Callable[[FeedItem], bool]
) -> AsyncIterator[bytes]:
    async for item in feed.follow(after, matches, HEARTBEAT_S):
        yield b": still here\n\n" if item is None else frame(item)


def frame(item: FeedItem) -> bytes:
    named = item.state in {AlertState.ACKNOWLEDGED, AlertState.RESOLVED}
    event = b"event: %b\n" % item.state.encode() if named else b""
    return b"id: %d\n%bdata: %b\n\n" % (item.id, event, item.body)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004  # Fits a bigint.
        raise InvalidRequest(
            "Last-Event-ID: it must be the id of an event of this stream, a number."
        )
    return int(text)
