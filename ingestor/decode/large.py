"""Large batches: split into items first, so that no step of decoding takes long. Pure.

The parsers hold the interpreter for a whole document. Here a document is decoded item by item, in a thread,
and the event loop runs between the items. An array is given up at item 1,001, before anything is decoded.
"""

import re
from collections.abc import Sequence

from ingestor.decode.acceptance import AcceptLimits, Origin
from ingestor.decode.fast import FastDecoder
from ingestor.decode.strict import (
    OVERSIZE_KEPT_BYTES,
    Items,
    decode_array_item,
    refuse,
    too_many_items,
)
from ingestor.decode.text import fault_of_the_text
from schema.event import MAX_ITEMS, Event, Reason, Rejection

_WHITE = b" \t\r\n"
DEPTH_MAX = 256  # Above the limit of the parser.

# In an item only brackets and texts matter. Short texts, and pairs of brackets that hold nothing deeper
# than two levels, are skipped in one step, up to 256 of them; each repeat is possessive and bounded.
_FLAT = rb'[^\[\]{}"]{1,4096}+|"[^"\\]{0,256}+"'
_PAIR = rb"[\[{](?:%b){0,64}+[\]}]"
_DEEPER = _FLAT + b"|" + _PAIR.replace(b"%b", _FLAT)
_SKIPPED = _DEEPER + b"|" + _PAIR.replace(b"%b", _DEEPER)
_IN_THE_ARRAY = re.compile(rb'[\[\]{},"]')
_IN_AN_ITEM = re.compile(rb'(?:%b){0,256}+([\[\]{}"]?)' % _SKIPPED)
_OPENING, _COMMA, _QUOTE = b"[{", b",", b'"'


class TooManyItemsError(Exception):
    """The array has more items than are accepted. Raised by `split`."""


class LargeItems(Items):
    """The source of dead letters of a large batch: the texts of its items."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        super().__init__(b"")
        self._texts = texts

    def text_of(self, event: Event) -> bytes:
        return self._texts[event.item or 0]


class LargeDecoder:
    """Decodes batches. `limits` are those of a single event; a batch may be larger."""

    def __init__(self, limits: AcceptLimits, batch_bytes_max: int) -> None:
        self._limits, self._batch_bytes_max = limits, batch_bytes_max
        self._fast = FastDecoder(limits)

    def decode(
        self, payload: bytes, origin: Origin
    ) -> tuple[list[Event | Rejection], LargeItems | None]:
        """The results that the small path gives, and the source of later dead letters."""
        if len(payload) > self._batch_bytes_max:
            detail = f"{len(payload)} bytes, at most {self._batch_bytes_max} are accepted"
            kept = payload[:OVERSIZE_KEPT_BYTES]
            return [refuse(kept, origin, Reason.TOO_LARGE, detail)], None
        try:
            texts = split(payload)
        except TooManyItemsError:
            return [too_many_items(payload, origin)], None
        except ValueError as error:
            return [self._malformed(payload, origin, error)], None
        if not texts:
            return [refuse(payload, origin, Reason.NO_ITEMS, "an array without items")], None
        items = []
        for index, text in enumerate(texts):
            try:
                items.append(self._item(text, index, origin))
            except ValueError as error:
                fault = f"item {index}: {fault_of_the_text(text, error)}"
                return [refuse(payload, origin, Reason.MALFORMED_JSON, fault)], None
        return items, LargeItems(texts)

    def _item(self, text: bytes, index: int, origin: Origin) -> Event | Rejection:
        """Raises ValueError if it is no JSON: then nothing of the batch is."""
        if len(text) > self._limits.payload_bytes_max:
            detail = f"{len(text)} bytes, at most {self._limits.payload_bytes_max} are accepted"
            rejection = refuse(text[:OVERSIZE_KEPT_BYTES], origin, Reason.TOO_LARGE, detail)
            rejection.item = index
            return rejection
        event = self._fast.decode_item(text, index, origin)
        return event or decode_array_item(text, index, origin, self._limits)

    def _malformed(self, payload: bytes, origin: Origin, error: ValueError) -> Rejection:
        if payload.lstrip(_WHITE)[:1] == b"{":
            detail = "the body must be a JSON array of events; send one event to /v1/events"
            return refuse(payload, origin, Reason.NOT_AN_ARRAY, detail)
        return refuse(payload, origin, Reason.MALFORMED_JSON, fault_of_the_text(payload, error))


def split(payload: bytes, items_max: int = MAX_ITEMS) -> list[bytes]:
    """The texts of the items of an array, without looking into them.

    Raises ValueError if the payload is no array, TooManyItemsError beyond `items_max` items.
    """
    end = len(payload.rstrip(b"\0" + _WHITE))
    begin = len(payload) - len(payload.lstrip(_WHITE)) + 1
    if payload[begin - 1 : begin] != b"[":
        raise ValueError("expected value")
    texts: list[bytes] = []
    mark = b""
    while mark != b"]":
        mark, place = _end_of_item(payload, begin, end)
        text = payload[begin : place - 1].strip(_WHITE)
        if mark == b"}":
            raise ValueError("trailing characters")
        if not text and (texts or mark == _COMMA):
            raise ValueError("trailing comma")
        if len(texts) == items_max:
            raise TooManyItemsError
        if text:
            texts.append(text)
        begin = place
    if begin != end:
        raise ValueError("trailing characters")
    return texts


def _end_of_item(payload: bytes, place: int, end: int) -> tuple[bytes, int]:
    """The comma or bracket that ends an item, and the place behind it."""
    depth = 0
    while True:
        mark, place = _next_mark(payload, place, end, in_an_item=depth > 0)
        if mark == _QUOTE:
            place = _end_of_text(payload, place, end)
        elif mark and mark in _OPENING:
            depth += 1
            if depth > DEPTH_MAX:
                raise ValueError("recursion limit")
        elif mark == _COMMA or (mark and not depth):
            return mark, place
        elif mark:
            depth -= 1


def _next_mark(payload: bytes, place: int, end: int, *, in_an_item: bool) -> tuple[bytes, int]:
    """Empty if a step ended between two marks."""
    found = (_IN_AN_ITEM.match if in_an_item else _IN_THE_ARRAY.search)(payload, place, end)
    if found is None or found.end() == place:
        raise ValueError("EOF")
    return found[found.re.groups], found.end()


def _end_of_text(payload: bytes, place: int, end: int) -> int:
    """The place behind the quote that ends a text; escaped quotes follow an odd number of backslashes."""
    escaped = 1
    while escaped % 2:
        quote = payload.find(_QUOTE, place, end)
        if quote < 0:
            raise ValueError("EOF")
        before = payload[place:quote]
        escaped = len(before) - len(before.rstrip(b"\\"))
        place = quote + 1
    return place
