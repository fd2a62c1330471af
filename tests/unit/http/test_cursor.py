"""Pages by docs/http-api.md#lists-and-pages: by keyset, with a cursor bound to its query."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.cursor import fingerprint, next_link, read_cursor, write_cursor
from runtime.errors import InvalidRequest

properties = settings(max_examples=30, deadline=None, database=None)

QUERY = fingerprint("events", "deviceA", None, None)
TEXTS = st.text(st.characters(codec="utf-8"))
KEYS = st.lists(TEXTS | st.integers(-(2**63), 2**63 - 1) | st.booleans(), min_size=1, max_size=4)


def encoded(text: bytes) -> str:
    return urlsafe_b64encode(text).decode().rstrip("=")


@properties
@given(KEYS)
def test_a_cursor_is_read_back_as_the_key_it_was_made_of(key: list[Any]) -> None:
    cursor = write_cursor(QUERY, key)
    assert read_cursor(cursor, QUERY, len(key)) == key
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor), "it stands in a URL as it is"


def test_without_a_cursor_a_list_begins_at_its_beginning() -> None:
    assert read_cursor(None, QUERY, 2) is None


@pytest.mark.parametrize(
    "other",
    [
        ("events", "deviceB", None, None),
        ("search", "deviceA", None, None),
        ("events", "deviceA", datetime(2026, 2, 1, tzinfo=UTC), None),
        ("events", "deviceA", None, datetime(2026, 2, 1, tzinfo=UTC)),
        ("events", "deviceA", None),
        ("events", "deviceA", "None", None),
    ],
    ids=str,
)
def test_a_cursor_belongs_to_one_query(other: tuple[Any, ...]) -> None:
    cursor = write_cursor(QUERY, ["2026-02-01T14:23:45+00:00", "e001"])
    with pytest.raises(InvalidRequest, match="different query"):
        read_cursor(cursor, fingerprint(*other), 2)


def test_the_same_query_accepts_the_cursor_again() -> None:
    parts = ("search", ["a", "b"], datetime(2026, 2, 1, tzinfo=UTC), None)
    assert fingerprint(*parts) == fingerprint(*parts)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_cursor_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequest, match="different query"):
        read_cursor(write_cursor(QUERY, ["a", "b"]), QUERY, length)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "abc",
        "%%%",
        "é",
        "\ud800",
        "\0",
        "../../etc",
        encoded(b""),
        encoded(b"null"),
        encoded(b"5"),
        encoded(b"[]"),
        encoded(b"{}"),
        encoded(b'"text"'),
        encoded(b'{"0":"x"}'),
        encoded(b"\xff"),
        encoded(b"[NaN]"),
        encoded(f'["{QUERY}","a"'.encode()),
        encoded(f'["{QUERY}",1e400]'.encode()),
        encoded(f'["{QUERY}","\\ud800"]'.encode()),
        encoded(f'["{QUERY}","a"] '.encode() + b"x"),
    ],
    ids=ascii,
)
def test_an_invalid_cursor_is_the_mistake_of_the_caller(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^cursor: "):
        read_cursor(cursor, QUERY, 1)


@pytest.mark.parametrize("text", [b"[" * 5000, b"[" * 5000 + b"]" * 5000, b'{"a":' * 5000])
def test_a_deeply_nested_cursor_is_the_mistake_of_the_caller(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^cursor: "):
        read_cursor(encoded(text), QUERY, 1)


@properties
@given(st.text() | st.binary().map(encoded) | KEYS.map(str))
def test_any_text_is_a_cursor_or_the_mistake_of_the_caller(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^cursor: "):
        read_cursor(cursor, QUERY, 2)


@properties
@given(KEYS, st.data())
def test_a_damaged_cursor_never_does_more_than_be_refused(
    key: list[Any], data: st.DataObject
) -> None:
    cursor = write_cursor(QUERY, key)
    cut = data.draw(st.integers(0, len(cursor)))
    for damaged in (cursor[:cut], cursor[cut:], cursor[:cut] + "x" + cursor[cut:]):
        try:
            found = read_cursor(damaged, QUERY, len(key))
        except InvalidRequest:
            continue
        assert found is not None
        assert len(found) == len(key)


# -- The Link header. --


def parsed(link: str) -> tuple[str, list[tuple[str, str]]]:
    found = re.fullmatch(r'<([^<>\s"]+)>; rel="next"', link)
    assert found is not None, link
    parts = urlsplit(found[1])
    return parts.path, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)


def test_the_link_repeats_the_query_with_the_new_cursor() -> None:
    parameters = [("tag", "a"), ("limit", "2"), ("tag", "b"), ("cursor", "old")]
    path, query = parsed(next_link("/v1/search", parameters, "new"))
    assert path == "/v1/search"
    assert query == [("tag", "a"), ("limit", "2"), ("tag", "b"), ("cursor", "new")]


@properties
@given(st.lists(st.tuples(st.sampled_from(["tag", "from_time", "q"]), TEXTS)))
def test_the_link_carries_any_value_safely(parameters: list[tuple[str, str]]) -> None:
    link = next_link("/v1/search", parameters, write_cursor(QUERY, ["x"]))
    assert link.isascii()
    assert link.isprintable()
    _, query = parsed(link)
    assert query[:-1] == parameters
    assert read_cursor(query[-1][1], QUERY, 1) == ["x"]


def test_a_cursor_hides_no_secret_and_needs_no_padding() -> None:
    cursor = write_cursor("q", ["é"])
    assert urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)) == '["q","é"]'.encode()
    assert read_cursor(cursor + "=" * (-len(cursor) % 4), "q", 1) == ["é"]
