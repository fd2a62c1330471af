"""The fast path of decoding: known fields, ASCII, no escapes, no fault. It is several times as fast.

Nearly every payload takes it. All others go to ingestor/decode/strict.py. The two never disagree:
tests/unit/ingestor/test_decode.py gives every payload to both.
"""

import re
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, UnsetType

from ingestor.decode.acceptance import AcceptLimits, Origin, RefusedError, derived_id
from ingestor.decode.strict import decode
from ingestor.decode.wall_clock import OFFSET_US_MAX
from schema.event import MAX_EXACT_INTEGER, MAX_ITEMS, MAX_METRICS, Event, Rejection
from schema.instants import MICROSECOND, epoch_us, parse_written

TEXT_CHARS_MAX = 128
TAGS_MAX = 32
NAMES_MAX = (
    10_000  # So many valid metric names, and tags, are cached; others are checked each time.
)

_is_device_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}").fullmatch
_is_metric_name = re.compile(r"[A-Za-z0-9_.:/%-]{1,128}").fullmatch


class _NotOnFastPathError(Exception):
    """The strict decoder must decide. Raised and caught in this file."""


_REFUSALS = (
    msgspec.MsgspecError,
    RefusedError,
    RecursionError,
    ValueError,
    _NotOnFastPathError,
)


class FastBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event as schema/event.py describes it, as far as types can."""

    metrics: dict[str, float]
    event_id: str | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET
    timeStamp: str | UnsetType = UNSET  # noqa: N815  # The name on the wire.
    ts: int | UnsetType = UNSET
    age_ms: int | UnsetType = UNSET
    tags: list[str] = []
    seq: int | UnsetType = UNSET


class FastDecoder:
    """Decodes the payloads of one door."""

    def __init__(self, limits: AcceptLimits) -> None:
        self._limits = limits
        self._read = msgspec.json.Decoder(FastBody | list[FastBody]).decode
        self._names: set[str] = set()
        self._tags: set[str] = set()
        self._max_age_us = limits.accepted_age // MICROSECOND
        self._max_future_us = limits.max_future // MICROSECOND

    def decode(self, payload: bytes, origin: Origin) -> list[Event | Rejection]:
        """The same result as ingestor.decode.strict.decode."""
        if not payload.isascii() or b"\\" in payload:
            return decode(payload, origin, self._limits)
        try:
            return self._decode_fast(payload, origin)
        except _REFUSALS:
            # The strict decoder reports what is wrong, and with which items.
            return decode(payload, origin, self._limits)

    def decode_item(self, text: bytes, index: int, origin: Origin) -> Event | None:
        """The event in the text of an array item; None if the strict decoder must decide."""
        if not text.isascii() or b"\\" in text:
            return None
        try:
            body = self._read(text)
            return self._event(body, index, origin) if isinstance(body, FastBody) else None
        except _REFUSALS:
            return None

    def _decode_fast(self, payload: bytes, origin: Origin) -> list[Event | Rejection]:
        if len(payload) > self._limits.payload_bytes_max:
            raise _NotOnFastPathError
        document = self._read(payload)
        if isinstance(document, FastBody):
            return [self._event(document, None, origin)]
        if not 1 <= len(document) <= MAX_ITEMS:
            raise _NotOnFastPathError
        return [self._event(body, index, origin) for index, body in enumerate(document)]

    def _event(self, body: FastBody, index: int | None, origin: Origin) -> Event:
        """Raises at the slightest doubt. Written for speed."""
        device_id, metrics, tags = origin.device_id, body.metrics, body.tags
        seq = None if body.seq is UNSET else body.seq
        if device_id is None or body.device_id is not UNSET:
            device_id = _device(body.device_id, device_id)
        if not self._names.issuperset(metrics) or not 1 <= len(metrics) <= MAX_METRICS:
            self._learn(metrics)
        for name, value in metrics.items():
            if value.is_integer() and -MAX_EXACT_INTEGER < value < MAX_EXACT_INTEGER:
                metrics[name] = int(value)
        if tags and not (len(tags) <= TAGS_MAX and self._tags.issuperset(tags)):
            self._learn_tags(tags)
        if seq is not None and not 0 <= seq < MAX_EXACT_INTEGER:
            raise _NotOnFastPathError
        own_us, wall_us = self._own_time(body, origin)
        ts_us = origin.received_us if own_us is None else own_us
        event_id = body.event_id
        if event_id is UNSET:
            event_id = derived_id(device_id, own_us, (metrics, tags, seq), origin, index or 0)
        elif not (1 <= len(event_id) <= TEXT_CHARS_MAX and event_id.isprintable()):
            raise _NotOnFastPathError
        received_us, own_time = origin.received_us, own_us is not None
        return Event(
            device_id, event_id, ts_us, metrics, tags, seq, received_us, index, own_time, wall_us
        )

    def _own_time(self, body: FastBody, origin: Origin) -> tuple[int | None, int | None]:
        """In µs, inside the accepted window; repeated if it has no offset (Event.wall_us)."""
        timestamp, ts = body.timestamp, body.ts
        if body.timeStamp is not UNSET or body.age_ms is not UNSET:
            raise _NotOnFastPathError
        if timestamp is UNSET:
            if ts is UNSET:
                return None, None
            own_us = ts * 1000
        elif ts is UNSET:
            written = parse_written(timestamp)
            if written.tzinfo is None:
                return self._wall_clock(written, origin)
            own_us = epoch_us(written)
        else:
            raise _NotOnFastPathError
        if -self._max_age_us <= own_us - origin.received_us <= self._max_future_us:
            return own_us, None
        raise _NotOnFastPathError

    def _wall_clock(self, written: datetime, origin: Origin) -> tuple[int, int]:
        """The time as if it were UTC, twice; in some zone it is inside the accepted window."""
        wall_us = epoch_us(written.replace(tzinfo=UTC))
        ahead_us = wall_us - origin.received_us
        if -self._max_age_us - OFFSET_US_MAX <= ahead_us <= self._max_future_us + OFFSET_US_MAX:
            return wall_us, wall_us
        raise _NotOnFastPathError

    def _learn(self, metrics: dict[str, float]) -> None:
        if not 1 <= len(metrics) <= MAX_METRICS or not all(map(_is_metric_name, metrics)):
            raise _NotOnFastPathError
        if len(self._names) < NAMES_MAX:
            self._names.update(metrics)

    def _learn_tags(self, tags: list[str]) -> None:
        if len(tags) > TAGS_MAX or not all(map(_is_text, tags)):
            raise _NotOnFastPathError
        if len(self._tags) < NAMES_MAX:
            self._tags.update(tags)


def _device(named: str | UnsetType, of_topic: str | None) -> str:
    if named is UNSET or _is_device_id(named) is None or of_topic not in {None, named}:
        raise _NotOnFastPathError
    return named


def _is_text(text: str) -> bool:
    """ASCII text that is printable holds no control character."""
    return 1 <= len(text) <= TEXT_CHARS_MAX and text.isprintable()
