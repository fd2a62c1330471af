"""Opaque keyset cursors, bound to the query that they continue."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode

import msgspec

from runtime.errors import InvalidRequest
from schema.instants import EARLIEST, LATEST

INVALID_CURSOR = "cursor: invalid; use the cursor in the Link header of a page, or none."


def fingerprint(*parts: Any) -> str:
    """A short hash of everything that a page depends on, except its size."""
    return blake2b(repr(parts).encode(), digest_size=6).hexdigest()


def write_cursor(query_hash: str, key: list[Any]) -> str:
    """`key` is the sort key of the last row shown, as JSON values."""
    return urlsafe_b64encode(msgspec.json.encode([query_hash, *key])).decode().rstrip("=")


def read_cursor(cursor: str | None, query_hash: str, length: int) -> list[Any] | None:
    """The key after which to continue.

    Raises InvalidRequest for an invalid cursor and for one of a different query.
    """
    if cursor is None:
        return None
    try:
        found = msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        belongs = isinstance(found, list) and found[0] == query_hash and len(found) == length + 1
    except (ValueError, IndexError, RecursionError) as error:
        raise InvalidRequest(INVALID_CURSOR) from error
    if not belongs:
        raise InvalidRequest("cursor: it was issued for a different query; start without one.")
    return list(found[1:])


def instant_of(part: Any) -> datetime:
    """Read a part of a key as an instant. Raises InvalidRequest."""
    try:
        at = datetime.fromisoformat(str(part))
    except ValueError as error:
        raise InvalidRequest(INVALID_CURSOR) from error
    if at.tzinfo is None or not EARLIEST <= at <= LATEST:
        raise InvalidRequest(INVALID_CURSOR)
    return at


def number_of(part: Any, most: int) -> int:
    """Read a part of a key as a number from 0 to `most`. Raises InvalidRequest."""
    if type(part) is not int or not 0 <= part <= most:
        raise InvalidRequest(INVALID_CURSOR)
    return part


def next_link(path: str, query: list[tuple[str, str]], cursor: str) -> str:
    """The value of a Link header (RFC 8288) to the next page."""
    pairs = [(name, value) for name, value in query if name != "cursor"]
    return f'<{path}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'
