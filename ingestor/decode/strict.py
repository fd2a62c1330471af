"""(payload, origin) → events and rejections. Pure and total: it never raises.

1. The text must be strict JSON (RFC 8259): one object, or an array of at most 1,000. A fault refuses it all.
2. Each item is checked on its own: shape, identity, device, time. A fault refuses that item only.

The ranges of the device's profile are checked later, where the profile is known
(ingestor/store/registry.py).
"""

from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from ingestor.decode.acceptance import AcceptLimits, Origin, RefusedError, derived_id
from ingestor.decode.text import fault_of_the_text, parse, text_of
from ingestor.decode.times import TIMES, bad_time, own_time
from schema.event import (
    MAX_EXACT_INTEGER,
    MAX_ITEMS,
    MAX_METRICS,
    Event,
    EventBody,
    Reason,
    Rejection,
)

OVERSIZE_KEPT_BYTES = 1024
UNREADABLE = "a fault of Voltwire, which its log explains: replay this dead letter once it is fixed"
SHOWN_CHARS_MAX = 200  # of a text of the sender, in a reason

log = structlog.get_logger()

_validate = TypeAdapter(EventBody).validator.validate_python
_FIELDS = frozenset(EventBody.__annotations__)
_INTEGERS = ("ts", "age_ms", "seq")
_REASON_OF_FIELD = {
    "event_id": Reason.BAD_EVENT_ID,
    "device_id": Reason.BAD_DEVICE_ID,
    "tags": Reason.BAD_TAGS,
    "seq": Reason.BAD_SEQ,
} | dict.fromkeys(TIMES, Reason.BAD_TIME)
_EXAMPLE = '{"metrics":{"temp":21.5}}'
_EXPECTED = {
    Reason.BAD_EVENT_ID: "text of 1 to 128 characters, none of them a control character",
    Reason.BAD_DEVICE_ID: "[A-Za-z0-9] and then up to 127 of [A-Za-z0-9._:-]",
    Reason.BAD_METRICS: f"an object of 1 to {MAX_METRICS} metrics, as in {_EXAMPLE}",
    Reason.BAD_METRIC_NAME: "a name is 1 to 128 characters of [A-Za-z0-9_.:/%-]",
    Reason.BAD_METRIC_VALUE: "a finite JSON number",
    Reason.BAD_TAGS: "an array of up to 32 texts of 1 to 128 characters without NUL",
    Reason.BAD_SEQ: "an integer from 0 to 9007199254740991",
}


def _squeezed(name: str) -> str:
    """A field name without what a sender may have written differently."""
    return name.lower().replace("_", "").replace("-", "")


# Names that are nearly ours. Those that only look like a time count where the event has none.
_MEANT = {_squeezed(name): name for name in sorted(_FIELDS)}
_MEANT_TIMES = dict.fromkeys(("time", "datetime", "date"), "timestamp")


def decode(payload: bytes, origin: Origin, limits: AcceptLimits) -> list[Event | Rejection]:
    """One result per item, in order; a fault in the text gives one rejection without an index."""
    try:
        return _decode(payload, origin, limits)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # A panic in the parser is not an Exception.
        # A fault of ours must not stop the stream; a replay takes the payload once it is fixed.
        log.exception("A payload cannot be decoded; it becomes a dead letter.")
        return [refuse(payload, origin, Reason.UNREADABLE, UNREADABLE)]


def _decode(payload: bytes, origin: Origin, limits: AcceptLimits) -> list[Event | Rejection]:
    if len(payload) > limits.payload_bytes_max:
        detail = f"{len(payload)} bytes, at most {limits.payload_bytes_max} are accepted"
        return [refuse(payload[:OVERSIZE_KEPT_BYTES], origin, Reason.TOO_LARGE, detail)]
    try:
        document = parse(payload)
    except ValueError as error:
        return [refuse(payload, origin, Reason.MALFORMED_JSON, fault_of_the_text(payload, error))]
    if not isinstance(document, list):
        return [_item(document, None, payload, origin, limits)]
    if not document:
        return [refuse(payload, origin, Reason.NO_ITEMS, "an array without items")]
    if len(document) > MAX_ITEMS:
        return [too_many_items(payload, origin)]
    return [_item(item, index, None, origin, limits) for index, item in enumerate(document)]


def decode_item(payload: bytes, origin: Origin, limits: AcceptLimits) -> Event | Rejection:
    """Decode what was one item of an array. It must not be an array, as in its array."""
    try:
        document = parse(payload)
    except ValueError as error:
        return refuse(payload, origin, Reason.MALFORMED_JSON, fault_of_the_text(payload, error))
    return _item(document, None, payload, origin, limits)


def decode_array_item(
    text: bytes, index: int, origin: Origin, limits: AcceptLimits
) -> Event | Rejection:
    """Decode the text of an item apart from its array. Raises ValueError if it is no JSON."""
    (item,) = parse(b"[%b]" % text)  # It may nest as deep as in its array, and no deeper.
    return _item(item, index, text, origin, limits)


def too_many_items(payload: bytes, origin: Origin) -> Rejection:
    detail = f"an array of more than {MAX_ITEMS} items: send several"
    return refuse(payload, origin, Reason.TOO_MANY_ITEMS, detail)


def _item(
    item: Any, index: int | None, payload: bytes | None, origin: Origin, limits: AcceptLimits
) -> Event | Rejection:
    try:
        event = _event(item, index or 0, origin, limits)
    except RefusedError as refused:
        raw = payload if payload is not None else text_of(item)
        rejection = refuse(raw, origin, refused.reason, refused.detail)
        rejection.item = index
        if isinstance(item, dict):
            rejection.event_id = _text_or_none(item.get("event_id"))
            rejection.device_id = origin.device_id or _text_or_none(item.get("device_id"))
        return rejection
    event.item = index
    return event


class Items:
    """A payload as the source of dead letters; it is parsed once, when the first item is needed."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._document: Any = None

    def text_of(self, event: Event) -> bytes:
        """The text that an event was read from: its item of an array, or the whole payload."""
        if event.item is None:
            return self._payload
        if self._document is None:
            self._document = parse(self._payload)
        return text_of(self._document[event.item])


def reject(event: Event, source: Items, reason: Reason, detail: str) -> Rejection:
    """The rejection of an event that was refused after decoding, with the text it was read from."""
    payload = source.text_of(event)
    return Rejection(
        reason,
        detail,
        payload,
        event.received_at,
        event.device_id,
        event.event_id,
        event.item,
    )


def _event(item: Any, index: int, origin: Origin, limits: AcceptLimits) -> Event:
    if not isinstance(item, dict):
        raise RefusedError(Reason.NOT_AN_OBJECT, "an event is a JSON object")
    _require_known_fields(item)
    try:
        body: EventBody = _validate(_with_integers(item))
    except ValidationError as error:
        raise _first_fault(error, item, origin) from None
    device_id = _device(body.get("device_id"), origin)
    ts_us, has_own_time, wall_us = own_time(body, origin, limits)
    metrics = {
        # json_number, inlined: an array has many events, each with many metrics.
        name: int(value) if value.is_integer() and abs(value) < MAX_EXACT_INTEGER else value
        for name, value in body["metrics"].items()
    }
    tags, seq = body.get("tags") or [], body.get("seq")
    event_id = body.get("event_id")
    if event_id is None:
        content = (metrics, tags, seq)
        event_id = derived_id(device_id, ts_us if has_own_time else None, content, origin, index)
    received_us = origin.received_us
    return Event(
        device_id, event_id, ts_us, metrics, tags, seq, received_us, None, has_own_time, wall_us
    )


def _require_known_fields(item: Mapping[str, Any]) -> None:
    """Refuse a name that is nearly ours while ours is absent: its value would be lost without a trace."""
    unknown = item.keys() - _FIELDS
    if not unknown:
        return
    meant = _MEANT if item.keys() & set(TIMES) else _MEANT | _MEANT_TIMES
    for name in sorted(unknown):
        right = meant.get(_squeezed(name))
        if right is not None and not _present(right, item):
            detail = f"{_printable(name)}: no field of an event; write {right}"
            raise RefusedError(Reason.UNKNOWN_FIELD, detail)


def _present(right: str, item: Mapping[str, Any]) -> bool:
    return right in item or (right == "timestamp" and "timeStamp" in item)


def _with_integers(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """1795842681212.0 is an integer, however it is written."""
    whole = {
        name: int(value)
        for name in _INTEGERS
        if isinstance(value := item.get(name), float) and value.is_integer()
    }
    return {**item, **whole} if whole else item


def _device(named: str | None, origin: Origin) -> str:
    """The topic, or the secret of a device, is the authority: a body may not name another device."""
    if origin.device_id is None:
        if named is None:
            raise RefusedError(Reason.BAD_DEVICE_ID, "device_id: required over HTTP")
        return named
    if named is not None and named != origin.device_id:
        detail = f"device_id: {named} in an event of {origin.device_id}"
        raise RefusedError(Reason.DEVICE_MISMATCH, detail)
    return origin.device_id


def _first_fault(error: ValidationError, item: Mapping[str, Any], origin: Origin) -> RefusedError:
    fault = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in fault["loc"]]
    reason = _REASON_OF_FIELD.get(path[0], Reason.BAD_METRICS)
    if reason is Reason.BAD_TIME:
        return bad_time(path[0], item[path[0]], origin)
    if path[0] == "metrics" and len(path) > 1:
        reason = Reason.BAD_METRIC_NAME if path[-1] == "[key]" else Reason.BAD_METRIC_VALUE
    if reason is Reason.BAD_METRICS and "metrics" not in item:
        return RefusedError(reason, _right_form(item))
    shown = _printable(".".join(part for part in path if part != "[key]"))
    return RefusedError(reason, f"{shown}: {_EXPECTED[reason]}")


def _right_form(item: Mapping[str, Any]) -> str:
    """For an event without `metrics`: how to write it, with the first number that it has."""
    for name, value in item.items():
        if name not in _FIELDS and type(value) in {int, float}:
            form = text_of({"metrics": {name: value}}).decode()
            return f"metrics: required; write values into it, as in {_printable(form)}"
    return f"metrics: required; {_EXPECTED[Reason.BAD_METRICS]}"


def _printable(text: str) -> str:
    """The sender's text goes into a log and a text column."""
    return text[:SHOWN_CHARS_MAX].encode("unicode_escape").decode()


def refuse(payload: bytes, origin: Origin, reason: Reason, detail: str) -> Rejection:
    return Rejection(reason, detail, payload, origin.received_at, origin.device_id)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 128 and "\0" not in value else None  # noqa: PLR2004
