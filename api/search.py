"""Events by their tags.

One index of tags answers every kind of question: as a text search vector whose words are whole tags,
which a tsquery asks for all of some tags, for any of some, and for the beginning of one.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from api.cursor import instant_of, number_of, question, read_cursor
from api.pages import page
from api.params import Cursor, FromTime, Limit, ToTime, time_range
from api.store import QueryStore
from schema.errors import InvalidRequest

TAGS_MAX = 32  # As many as an event carries.
TAG_CHARACTERS_MAX = 128
DEVICE_NO_MAX = 2**31 - 1


@get(
    "/v1/search",
    summary="Events by their tags, newest first",
    description="At least one of `tag`, `any_tag` and `tag_prefix`; all that are given must hold.",
    tags=["Events"],
)
async def search(
    request: Request[Any, Any, Any],
    store: NamedDependency[QueryStore],
    tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="Repeat it: the event carries all of them"),
    ] = None,
    any_tag: Annotated[
        list[str] | None,
        QueryParameter(max_items=TAGS_MAX, description="Repeat it: the event carries one of them"),
    ] = None,
    tag_prefix: Annotated[
        str | None, QueryParameter(description="The event carries a tag that begins so")
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response[bytes]:
    start, end = time_range(from_time, to_time)
    tags = wanted(_tags("tag", tag), _tags("any_tag", any_tag), _prefix(tag_prefix))
    asked = question("search", tags, start, end)
    key = read_cursor(cursor, asked, 3)
    after = (
        None if key is None else (instant_of(key[0]), str(key[1]), number_of(key[2], DEVICE_NO_MAX))
    )
    rows = await store.search(tags, start, end, after=after, limit=limit)
    return page(
        request, rows, limit, asked,
        lambda row: [row["ts"].isoformat(), row["event_id"], row["device_no"]],
    )  # fmt: skip


def wanted(all_of: Iterable[str], any_of: Iterable[str], prefix: str | None) -> str:
    """The tsquery that asks for all three. Raises InvalidRequest if none is given."""
    conditions = [_word(tag) for tag in sorted(set(all_of))]
    if one_of := [_word(tag) for tag in sorted(set(any_of))]:
        conditions.append(f"({' | '.join(one_of)})")
    if prefix is not None:
        conditions.append(f"{_word(prefix)}:*")
    if not conditions:
        raise InvalidRequest("Give at least one of tag, any_tag and tag_prefix.")
    return " & ".join(conditions)


def _word(tag: str) -> str:
    """A tag as it is, in the quotes of a tsquery."""
    return "'" + tag.replace("\\", "\\\\").replace("'", "''") + "'"


def _tags(name: str, texts: list[str] | None) -> list[str]:
    return [_tag(name, text) for text in texts or ()]


def _prefix(text: str | None) -> str | None:
    return None if text is None else _tag("tag_prefix", text)


def _tag(name: str, text: str) -> str:
    if not 1 <= len(text) <= TAG_CHARACTERS_MAX or "\0" in text:
        raise InvalidRequest(f"{name}: 1 to {TAG_CHARACTERS_MAX} characters without NUL.")
    return text
