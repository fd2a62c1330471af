"""(payload, origin) → events and rejections. Pure and total: it never raises.

1. The text must be strict JSON (RFC 8259): one object, or an array of at most 1,000. A fault refuses it all.
2. Each item is checked on its own: shape, identity, device, time. A fault refuses that item only.

The ranges of the device's profile are checked later, where the profile is known
(ingestor/store/registry.py).
"""

import re
from math import isinf
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from ingestor.decode.acceptance import AcceptLimits, Origin, RefusedError, accepted_time, derived_id
from schema.event import MAX_EXACT_INTEGER, MAX_ITEMS, Event, EventBody, Reason, Rejection

OVERSIZE_KEPT_BYTES = 1024
DIGITS_MAX = 4300  # The parser refuses integers with more digits.
BEYOND_A_DOUBLE = 10**400

log = structlog.get_logger()

_STRING_OR_LONG_NUMBER = re.compile(
    rb'"(?:[^"\\]|\\.)*"|[1-9][0-9]{%d,}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?' % (DIGITS_MAX - 1)
)
_validate = TypeAdapter(EventBody).validator.validate_python
_TIMES = ("timestamp", "timeStamp", "ts", "age_ms")
_REASON_OF_FIELD = {
    "event_id": Reason.BAD_EVENT_ID,
    "device_id": Reason.BAD_DEVICE_ID,
    "timestamp": Reason.BAD_TIME,
    "timeStamp": Reason.BAD_TIME,
    "ts": Reason.BAD_TIME,
    "age_ms": Reason.BAD_TIME,
    "tags": Reason.BAD_TAGS,
    "seq": Reason.BAD_SEQ,
}
_EXPECTED = {
    Reason.BAD_EVENT_ID: "text of 1 to 128 characters, none of them a control character",
    Reason.BAD_DEVICE_ID: "[A-Za-z0-9] and then up to 127 of [A-Za-z0-9._:-]",
    Reason.BAD_METRICS: "an object of 1 to 64 metrics",
    Reason.BAD_METRIC_NAME: "a name is 1 to 128 characters of [A-Za-z0-9_.:/%-]",
    Reason.BAD_METRIC_VALUE: "a finite JSON number",
    Reason.BAD_TAGS: "up to 32 texts of 1 to 128 characters without NUL",
    Reason.BAD_SEQ: "an integer from 0 to 9007199254740991",
}


def decode(payload: bytes, origin: Origin, limits: AcceptLimits) -> list[Event | Rejection]:
    """One result per item, in order; a fault in the text gives one rejection without an index."""
    try:
        return _decode(payload, origin, limits)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A panic in the parser is not an Exception.
        # A fault of ours must not stop the stream; a replay takes the payload once it is fixed.
        log.exception("A payload cannot be decoded; it becomes a dead letter.")
        return [_refuse(payload, origin, Reason.UNREADABLE, type(error).__name__)]


def _decode(payload: bytes, origin: Origin, limits: AcceptLimits) -> list[Event | Rejection]:
    if len(payload) > limits.payload_bytes_max:
        detail = f"{len(payload)} bytes, at most {limits.payload_bytes_max} are accepted"
        return [_refuse(payload[:OVERSIZE_KEPT_BYTES], origin, Reason.TOO_LARGE, detail)]
    try:
        document = _parse(payload)
    except ValueError as error:
        return [_refuse(payload, origin, Reason.MALFORMED_JSON, str(error))]
    if not isinstance(document, list):
        return [_item(document, None, payload, origin, limits)]
    if not 1 <= len(document) <= MAX_ITEMS:
        reason = Reason.TOO_MANY_ITEMS if document else Reason.NO_ITEMS
        detail = f"an array of {len(document)} items, 1 to {MAX_ITEMS} are accepted"
        return [_refuse(payload, origin, reason, detail)]
    return [_item(item, index, None, origin, limits) for index, item in enumerate(document)]


def decode_item(payload: bytes, origin: Origin, limits: AcceptLimits) -> Event | Rejection:
    """Decode what was one item of an array. It must not be an array, as in its array."""
    try:
        document = _parse(payload)
    except ValueError as error:
        return _refuse(payload, origin, Reason.MALFORMED_JSON, str(error))
    return _item(document, None, payload, origin, limits)


def _parse(payload: bytes) -> Any:
    """Strict RFC 8259. A number of more than 4,300 digits is a fault of its event, not of the text."""
    try:
        return from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        if "number out of range" not in str(error):
            raise
    return from_json(_STRING_OR_LONG_NUMBER.sub(_shortened, payload), allow_inf_nan=False)


def _shortened(found: re.Match[bytes]) -> bytes:
    """A long integer stays out of range for every field when cut; other long numbers become doubles."""
    text = found[0]
    if text.startswith(b'"'):
        return text
    if text.isdigit():
        return text[: DIGITS_MAX - 1]
    value = float(text)
    return b"1e999" if isinf(value) else repr(value).encode()


def _item_payload(item: Any) -> bytes:
    """The item as JSON. A number beyond a double stays beyond it: a replay finds the same fault."""
    return to_json(_without_infinity(item))


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinity(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_infinity(inner) for inner in value]
    if isinstance(value, float) and isinf(value):
        return BEYOND_A_DOUBLE if value > 0 else -BEYOND_A_DOUBLE
    return value


def _item(
    item: Any, index: int | None, payload: bytes | None, origin: Origin, limits: AcceptLimits
) -> Event | Rejection:
    try:
        event = _event(item, index or 0, origin, limits)
    except RefusedError as refused:
        raw = payload if payload is not None else _item_payload(item)
        rejection = _refuse(raw, origin, refused.reason, refused.detail)
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
            self._document = _parse(self._payload)
        return _item_payload(self._document[event.item])


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
    try:
        body: EventBody = _validate(item)
    except ValidationError as error:
        raise _first_fault(error) from None
    device_id = _device(body.get("device_id"), origin)
    ts_us, own_time = _time(body, origin, limits)
    metrics = {
        # json_number, inlined: an array has many events, each with many metrics.
        name: int(value) if value.is_integer() and abs(value) < MAX_EXACT_INTEGER else value
        for name, value in body["metrics"].items()
    }
    tags, seq = body.get("tags") or [], body.get("seq")
    event_id = body.get("event_id")
    if event_id is None:
        content = (metrics, tags, seq)
        event_id = derived_id(device_id, ts_us if own_time else None, content, origin, index)
    return Event(device_id, event_id, ts_us, metrics, tags, seq, origin.received_us)


def _device(named: str | None, origin: Origin) -> str:
    """The topic is the authority: a body may repeat its device but not name another."""
    if origin.device_id is None:
        if named is None:
            raise RefusedError(Reason.BAD_DEVICE_ID, "device_id: required over HTTP")
        return named
    if named is not None and named != origin.device_id:
        detail = f"device_id: {named} on the topic of {origin.device_id}"
        raise RefusedError(Reason.DEVICE_MISMATCH, detail)
    return origin.device_id


def _time(body: EventBody, origin: Origin, limits: AcceptLimits) -> tuple[int, bool]:
    """The event's time, and whether a resend of the event would carry the same one."""
    given = [name for name in _TIMES if name in body]
    if len(given) > 1:
        raise RefusedError(Reason.SEVERAL_TIMES, f"{' and '.join(given)}: at most one of them")
    if not given:
        return origin.received_us, False
    name = given[0]
    ts_us = accepted_time(name, body[name], origin, limits)  # type: ignore[literal-required]  # One of four.
    return ts_us, name != "age_ms"


def _first_fault(error: ValidationError) -> RefusedError:
    fault = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in fault["loc"]]
    reason = _REASON_OF_FIELD.get(path[0], Reason.BAD_METRICS)
    if path[0] == "metrics" and len(path) > 1:
        reason = Reason.BAD_METRIC_NAME if path[-1] == "[key]" else Reason.BAD_METRIC_VALUE
    shown = ".".join(part for part in path if part != "[key]")[:200]
    # The sender's text goes into a log and a text column, so it must be printable.
    shown = shown.encode("unicode_escape").decode()
    return RefusedError(reason, f"{shown}: {_EXPECTED.get(reason, fault['msg'])}")


def _refuse(payload: bytes, origin: Origin, reason: Reason, detail: str) -> Rejection:
    return Rejection(reason, detail, payload, origin.received_at, origin.device_id)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 128 and "\0" not in value else None  # noqa: PLR2004
