"""Lists as JSON arrays, paged by keyset; the database writes the rows."""

from collections.abc import Callable, Sequence
from typing import Any

from litestar import MediaType, Request, Response

from api.http.cursor import next_link, write_cursor

ONCE = {"Cache-Control": "no-store"}  # Of a response with a secret, which is never shown again.


def json_text(
    body: str | bytes, headers: dict[str, str] | None = None, *, status: int = 200
) -> Response[bytes]:
    content = body.encode() if isinstance(body, str) else body
    return Response(content, media_type=MediaType.JSON, headers=headers, status_code=status)


def page(
    request: Request[Any, Any, Any],
    rows: Sequence[Any],
    limit: int,
    query_hash: str,
    key: Callable[[Any], list[Any]],
) -> Response[bytes]:
    """The first `limit` rows, with a Link header if there are more."""
    shown = rows[:limit]
    headers = {}
    if len(rows) > limit:
        pairs = list(request.query_params.multi_items())
        cursor = write_cursor(query_hash, key(shown[-1]))
        headers["Link"] = next_link(request.url.path, pairs, cursor)
    return json_text("[" + ",".join(row["body"] for row in shown) + "]", headers)
