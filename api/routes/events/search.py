"""Events by their tags."""

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.http.cursor import fingerprint, instant_of, number_of, read_cursor
from api.http.pages import page
from api.http.params import (
    TAGS_MAX,
    Cursor,
    FromTime,
    PageLimit,
    ToTime,
    short_text,
    short_texts,
    time_range,
)
from api.store.events import EventStore
from api.store.tags import tags_query
from runtime.errors import InvalidRequest

DEVICE_NO_MAX = 2**31 - 1


@get(
    "/v1/search",
    summary="Events by their tags, newest first",
    description="At least one of `tag`, `any_tag` and `tag_prefix` is required; all given ones must match.",
    tags=["Events"],
)
async def search(
    request: Request[Any, Any, Any],
    events: NamedDependency[EventStore],
    tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="Repeat it: the event carries all of them"),
    ] = None,
    any_tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="Repeat it: the event carries one of them"),
    ] = None,
    tag_prefix: Annotated[
        str | None, QueryParameter(description="The event carries a tag that begins with this")
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: PageLimit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    start, end = time_range(from_time, to_time)
    prefix = None if tag_prefix is None else short_text("tag_prefix", tag_prefix)
    tags = tags_query(short_texts("tag", tag), short_texts("any_tag", any_tag), prefix)
    if tags is None:
        raise InvalidRequest("Give at least one of tag, any_tag and tag_prefix.")
    query_hash = fingerprint("search", tags, start, end)
    key = read_cursor(cursor, query_hash, 3)
    after = (
        None if key is None else (instant_of(key[0]), str(key[1]), number_of(key[2], DEVICE_NO_MAX))
    )
    rows = await events.search(tags, start, end, after=after, limit=limit)
    return page(
        request, rows, limit, query_hash,
        lambda row: [row["ts"].isoformat(), row["event_id"], row["device_no"]],
    )  # fmt: skip
