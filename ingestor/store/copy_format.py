"""Events in the binary format of COPY (PostgreSQL manual, COPY, "Binary Format").

asyncpg encodes rows of any table; this encoder knows only `event` and takes a quarter of the time.
"""

from collections.abc import Iterable
from struct import Struct

import msgspec

from ingestor.batch import Row

COLUMNS = ("device_no", "ts", "event_id", "metrics", "tags", "seq", "received_at")
# Encoded lists of tags, because devices repeat theirs. The cache takes up to 10 MB with its keys.
TAGS_KEPT, TAGS_BYTES_MAX = 10_000, 256

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_TEXT_OID = 25
_LISTS_OF_ONE_DIMENSION = Struct(">iiiii").pack  # dimensions, no nulls, type, length, first index
_NO_TAGS = Struct(">iiii").pack(12, 0, 0, _TEXT_OID)
_EPOCH_US = 946_684_800_000_000  # timestamptz counts from 2000-01-01.

# The number of fields, 7; device_no and ts, each after its length; the length of event_id.
_head = Struct(">hiiiqi").pack
_length = Struct(">i").pack
_json_head = Struct(">ib").pack  # jsonb: a version, 1, before its text
_int8 = Struct(">iq").pack


class EventCopy:
    """Encodes the rows of batches; it caches encoded tags."""

    def __init__(self) -> None:
        self._json = msgspec.json.Encoder().encode
        self._tags: dict[tuple[str, ...], bytes] = {}

    def __call__(self, rows: Iterable[Row]) -> bytes:
        pieces = [_SIGNATURE]
        json, tags = self._json, self._encoded_tags
        received_us, received = -1, b""  # Kept from row to row: the events of a message share it.
        for row in rows:
            event = row.event
            if event.received_us != received_us:
                received_us = event.received_us
                received = _int8(8, received_us - _EPOCH_US)
            name, metrics = event.event_id.encode(), json(event.metrics)
            pieces += (
                _head(7, 4, row.device_no, 8, event.ts_us - _EPOCH_US, len(name)),
                name,
                _json_head(len(metrics) + 1, 1),
                metrics,
                tags(event.tags) if event.tags else _NO_TAGS,
                _NULL if event.seq is None else _int8(8, event.seq),
                received,
            )
        pieces.append(_TRAILER)
        return b"".join(pieces)

    def _encoded_tags(self, tags: list[str]) -> bytes:
        """A text[] after its length."""
        key = tuple(tags)
        found = self._tags.get(key)
        if found is None:
            pieces = [_LISTS_OF_ONE_DIMENSION(1, 0, _TEXT_OID, len(tags), 1)]
            for tag in tags:
                text = tag.encode()
                pieces += (_length(len(text)), text)
            body = b"".join(pieces)
            found = _length(len(body)) + body
            if len(found) <= TAGS_BYTES_MAX:
                if len(self._tags) >= TAGS_KEPT:
                    self._tags.clear()
                self._tags[key] = found
        return found
