"""The sentences of libraries about a wrong value, in the words of those who read them."""

import re
from collections.abc import Callable

_TYPES = {
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "list": "an array",
    "dict": "an object",
    "null": "null",
}


def _length(most: str | None) -> str:
    return f" of 1 to {most} characters" if most else ""


# What a library says, and what we say; the first that fits.
_SENTENCES: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"Expected `(\w+)(?: \| null)?`(?:, got .*)?", lambda m: _TYPES.get(m[1], "another value")),
    (
        r"Expected `(\w+)` ([<>]=?) ([-0-9.e]+).*",
        lambda m: f"{_TYPES.get(m[1], 'a number')} {m[2]} {m[3]}",
    ),
    (r"Expected `(?:str|array|list)` of length (.*)", lambda m: f"of length {m[1]}"),
    (r"Value error, (.*)", lambda m: m[1]),
    (r"Field required", lambda _: "required"),
    (r"Extra inputs are not permitted", lambda _: "no field of this request"),
    (r"Input should be an object|Input should be a valid dictionary.*", lambda _: "an object"),
    (r"Input should be a valid (?:list|array).*", lambda _: "an array"),
    (r"Input should be a valid string.*", lambda _: "a text"),
    (r"Input should be a valid integer.*", lambda _: "an integer"),
    (r"Input should be a valid number.*", lambda _: "a number"),
    (r"Input should be a valid boolean.*", lambda _: "true or false"),
    (r"Input should be (.*)", lambda m: m[1]),
    (r"Invalid JSON: (.*)", lambda m: f"not JSON: {m[1].replace('EOF', 'the end')}"),
    (
        r"String should match pattern '\^\[A-Za-z0-9\](\[\S+\])\{0,(\d+)\}\$'",
        lambda m: f"a letter or digit, then up to {m[2]} of {m[1]}",
    ),
    (
        r"String should match pattern '\^(\[A-Z\S+\])\{1,(\d+)\}\$'",
        lambda m: f"1 to {m[2]} characters of {m[1]}",
    ),
    (
        r"String should match pattern '\^\[\^\\x00(-\S+)?\](?:[+*]|\{1,(\d+)\})\$'",
        lambda m: f"a text{_length(m[2])} without {'control characters' if m[1] else 'NUL'}",
    ),
    (r"String should match pattern '(.*)'", lambda m: f"a text that matches {m[1]}"),
    (r"(?:List|Dictionary) should have (.*) after validation, (.*)", lambda m: f"{m[1]}, {m[2]}"),
    (r"(?:String|List|Dictionary|Value) should have (.*)", lambda m: m[1]),
]
_PATTERNS = [(re.compile(pattern, re.DOTALL), say) for pattern, say in _SENTENCES]


def pattern_in_words(pattern: str) -> str:
    """What a text of this pattern is, as errors of fields say it."""
    return plain(f"String should match pattern '{pattern}'")


def plain(message: str) -> str:
    """The message of a library without its own vocabulary; an unknown one as it is."""
    for pattern, say in _PATTERNS:
        found = pattern.fullmatch(message)
        if found is not None:
            return say(found)
    return message
