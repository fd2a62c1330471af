"""Opaque keyset cursors, bound to the question they continue."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode

import msgspec

from runtime.errors import InvalidRequest
from schema.instants import EARLIEST, LATEST

NO_CURSOR = "cursor: this is no cursor of ours."


def question(*parts: Any) -> str:
    """A short fingerprint of everything that a page depends on but for its size."""
    return blake2b(repr(parts).encode(), digest_size=6).hexdigest()


def write_cursor(asked: str, key: list[Any]) -> str:
    """`key` is the sort key of the last row shown: JSON values."""
    return urlsafe_b64encode(msgspec.json.encode([asked, *key])).decode().rstrip("=")


def read_cursor(cursor: str | None, asked: str, length: int) -> list[Any] | None:
    """The key to go on after. Raises InvalidRequest for what is no cursor or of another question."""
    if cursor is None:
        return None
    try:
        found = msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        belongs = isinstance(found, list) and found[0] == asked and len(found) == length + 1
    except (ValueError, IndexError, RecursionError) as error:
        raise InvalidRequest(NO_CURSOR) from error
    if not belongs:
        raise InvalidRequest("cursor: it belongs to another question; start without one.")
    return list(found[1:])


def instant_of(part: Any) -> datetime:
    """A part of a key that is an instant. Raises InvalidRequest for anything else."""
    try:
        at = datetime.fromisoformat(str(part))
    except ValueError as error:
        raise InvalidRequest(NO_CURSOR) from error
    if at.tzinfo is None or not EARLIEST <= at <= LATEST:
        raise InvalidRequest(NO_CURSOR)
    return at


def number_of(part: Any, most: int) -> int:
    """A part of a key that is a number from 0 to `most`. Raises InvalidRequest for anything else."""
    if type(part) is not int or not 0 <= part <= most:
        raise InvalidRequest(NO_CURSOR)
    return part


def next_link(path: str, query: list[tuple[str, str]], cursor: str) -> str:
    """The value of a Link header (RFC 8288) for the page after this one."""
    pairs = [(name, value) for name, value in query if name != "cursor"]
    return f'<{path}?{urlencode([*pairs, ("cursor", cursor)])}>; rel="next"'
