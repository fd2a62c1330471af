"""One stream for a page: newest events, presence and alerts (server-sent events)."""

from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from time import monotonic
from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Stream

from api.auth.authenticator import Authenticator
from api.feed import FeedReader
from api.http.held_resources import held_resources, resources_until_sent
from api.http.params import known_name, short_texts
from api.latest.live import FLEET_DEVICES_MAX, LatestReader, Watch
from api.middleware.head import is_head
from api.middleware.slow_clients import disconnect_slow_clients
from api.routes.streams.feed import (
    HEADERS,
    HEARTBEAT_S,
    MEDIA_TYPE,
    NAMED_STATES,
    SEND_S_MAX,
    STILL_HERE,
    LastEventId,
    LastEventIdInQuery,
    LastEventIdOfPolyfill,
    first_position,
    frame,
    holder,
    may_go_on,
)
from schema.feed import FeedItem

DEVICES_MAX = 200  # Per stream.
OPEN = b": open\n\n"  # Firefox hands a response to its page with the first byte of the body.
LATEST_EVERY_S = 1.0  # At most one frame of newest events in this time.
TICK_S = 0.5  # How often a stream looks whether there are any.


class Topic(StrEnum):
    LATEST = "latest"
    PRESENCE = "presence"
    ALERTS = "alerts"


KINDS = {Topic.PRESENCE: "presence", Topic.ALERTS: "alert"}  # In the feed.


@get(
    "/v1/live",
    summary="Newest events, presence and alerts in one stream (server-sent events)",
    description="Events of the type `latest` are arrays: the newest event of each device that changed,"
    " at first of every device, then at most once a second. They need `device_id` if the fleet has more than"
    f" {FLEET_DEVICES_MAX:,} devices. Changes of presence have the type `presence`, alerts `alert`,"
    " `acknowledged` or `resolved`; these have ids, after which the stream resumes.",
    media_type="text/event-stream",
    middleware=[resources_until_sent, disconnect_slow_clients(SEND_S_MAX)],
    tags=["Devices"],
)
async def live(
    request: Request[Any, Any, Any],
    feed: NamedDependency[FeedReader],
    latest_events: NamedDependency[LatestReader],
    authenticator: NamedDependency[Authenticator | None],
    topics: Annotated[
        str, QueryParameter(description=f"A comma list of {', '.join(Topic)}")
    ] = ",".join(Topic),
    device_id: Annotated[
        list[str] | None,
        QueryParameter(max_items=DEVICES_MAX, description="Repeat it; absent: the fleet"),
    ] = None,
    latest_device_id: Annotated[
        list[str] | None,
        QueryParameter(
            max_items=DEVICES_MAX,
            description="Repeat it: newest events of these devices alone; the other topics are of device_id",
        ),
    ] = None,
    last_event_id: LastEventId = None,
    in_query: LastEventIdInQuery = None,
    of_polyfill: LastEventIdOfPolyfill = None,
) -> Stream:
    wanted = _topics(topics)
    device_ids = frozenset(short_texts("device_id", device_id)) or None
    latest_of = frozenset(short_texts("latest_device_id", latest_device_id)) or device_ids
    position = first_position(last_event_id, in_query, of_polyfill)
    if is_head(request.scope):
        return Stream((), media_type=MEDIA_TYPE, headers=HEADERS)
    held = held_resources(request.scope)
    held.enter_context(feed.stream_slot(holder()))
    after = position(await feed.newest())
    watch = None
    if Topic.LATEST in wanted:
        watch = held.enter_context(latest_events.watching(latest_of))
        await latest_events.begin(watch)
    matches = _matching({KINDS[topic] for topic in wanted if topic in KINDS}, device_ids)
    frames = live_frames(feed, after, matches, latest_events, watch, may_go_on(authenticator))
    return Stream(frames, media_type=MEDIA_TYPE, headers=HEADERS)


async def live_frames(
    feed: FeedReader,
    after: int,
    matches: Callable[[FeedItem], bool],
    latest_events: LatestReader,
    watch: Watch | None,
    goes_on: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """Items of the feed as they are committed, newest events at most once a second, else comments."""
    yield OPEN if watch is None else _latest_frame(latest_events.changes(watch))
    sent_at = latest_at = monotonic()
    tick_s = HEARTBEAT_S if watch is None else TICK_S
    async for items in feed.follow(after, matches, tick_s, goes_on):
        frames = [_feed_frame(item) for item in items]
        now = monotonic()
        is_due = now - latest_at >= LATEST_EVERY_S
        if watch is not None and is_due and (bodies := latest_events.changes(watch)):
            frames.append(_latest_frame(bodies))
            latest_at = now
        if not frames and now - sent_at >= HEARTBEAT_S:
            frames.append(STILL_HERE)
        if frames:
            yield b"".join(frames)
            sent_at = now


def _topics(text: str) -> set[Topic]:
    return {known_name("topics", name.strip(), Topic) for name in text.split(",")}


def _matching(kinds: set[str], device_ids: frozenset[str] | None) -> Callable[[FeedItem], bool]:
    return lambda item: item.kind in kinds and (device_ids is None or item.device_id in device_ids)


def _latest_frame(bodies: list[str]) -> bytes:
    return f"event: latest\ndata: [{','.join(bodies)}]\n\n".encode()


def _feed_frame(item: FeedItem) -> bytes:
    """The frame of the other streams, but with a type for each kind."""
    if item.kind == KINDS[Topic.ALERTS] and item.state in NAMED_STATES:
        return frame(item)
    return b"event: %b\n%b" % (item.kind.encode(), frame(item))
