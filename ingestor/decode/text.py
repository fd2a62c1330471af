"""The text of a payload: strict JSON (RFC 8259), except that some numbers cost only their event. Pure.

Two faults cost only their event, because a device that writes them means the rest of its text: a number of
thousands of digits, and a bare NaN or Infinity. NULs at the end, which C programs send, are cut.
"""

import re
from math import isinf
from typing import Any

from pydantic_core import from_json, to_json

DIGITS_MAX = 4300  # The parser refuses integers with more digits.
BEYOND_A_DOUBLE = 10**400

# A text is matched to keep what is inside from being matched; possessive, so that a search is linear.
_TEXT_NUMBER_OR_NAN = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
    rb"|[1-9][0-9]*+(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
    rb"|(?<![\w.+-])[+-]?(?:nan|inf(?:inity)?)(?![\w.+-])",
    re.DOTALL | re.IGNORECASE,
)
_LEADING_DIGITS = re.compile(rb"[0-9]+")
_PLACE = re.compile(r" at (line [0-9]+ column [0-9]+)$")
# What the parser says, by its first words, in plain English.
_FAULTS = {
    "EOF": "it ends too early",
    "trailing comma": "a comma stands before a closing bracket",
    "trailing characters": "something follows the value",
    "key must": "a name must stand in double quotes",
    "invalid number": "a number is not written as JSON writes it",
    "number out of range": "a number is too long",
    "invalid escape": "a text holds an escape that JSON does not know",
    "control character": "a text holds a control character",
    "recursion limit": "it is nested too deeply",
    "lone leading": "a text holds half of a surrogate pair",
    "unexpected end of hex": "a text holds half of a surrogate pair",
    "expected `": "a colon, comma or closing bracket is missing",
}


def parse(payload: bytes) -> Any:
    """The value of a text. Raises ValueError, whose text `fault_of_the_text` explains."""
    text = payload.rstrip(b"\0")
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return from_json(_TEXT_NUMBER_OR_NAN.sub(_readable, text), allow_inf_nan=True)


def fault_of_the_text(payload: bytes, error: ValueError) -> str:
    """Why a text is no JSON, and where."""
    if payload.startswith(b"\xef\xbb\xbf"):
        return "not JSON: it begins with a byte order mark; send UTF-8 without one"
    try:
        payload.decode()
    except UnicodeDecodeError as bad:
        return f"not JSON: byte {bad.start} is not UTF-8"
    said = str(error)
    place = _PLACE.search(said)
    fault = next((text for start, text in _FAULTS.items() if said.startswith(start)), "")
    fault = fault or "a value is missing or is not written as JSON writes it"
    return f"not JSON: {fault}" + (f", {place[1]}" if place else "")


def text_of(item: Any) -> bytes:
    """An item as JSON. A number beyond a double stays beyond it: a replay finds the same fault."""
    return to_json(_without_infinity(item))


def _readable(found: re.Match[bytes]) -> bytes:
    """A long integer stays out of range for every field when cut; other long numbers become doubles."""
    text = found[0]
    if text[:1] == b'"':
        return text
    digits = _LEADING_DIGITS.match(text)
    if digits is None:
        sign = b"-" if text[:1] == b"-" else b""
        return b"NaN" if text[-1:] in b"nN" else sign + b"Infinity"
    if digits.end() < DIGITS_MAX:
        return text
    if text.isdigit():
        return text[: DIGITS_MAX - 1]
    value = float(text)
    return b"1e999" if isinf(value) else repr(value).encode()


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinity(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_infinity(inner) for inner in value]
    if isinstance(value, float) and isinf(value):
        return BEYOND_A_DOUBLE if value > 0 else -BEYOND_A_DOUBLE
    return value
