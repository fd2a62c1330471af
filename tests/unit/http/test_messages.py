"""What users read about a wrong value names no type of a programming language."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from api.alerts.silences import SilenceBody
from api.http.bodies import invalid_body
from runtime.plain_words import plain
from schema.registry import DeviceBody, ProfileBody
from schema.rule import RuleBody

FOREIGN = re.compile(
    r"(?i)\binput\b|\bstring\b|dictionary|instance|\bstr\b|\bint\b|`|value error"
    r"|pydantic|validation|valid array|\\x|\^|\$|match"
)

BODIES: list[tuple[Any, str]] = [
    (DeviceBody, "5"),
    (DeviceBody, "[]"),
    (DeviceBody, "{"),
    (DeviceBody, '{"name":5}'),
    (DeviceBody, '{"name":""}'),
    (DeviceBody, '{"tags":"x"}'),
    (DeviceBody, '{"tags":[5]}'),
    (DeviceBody, '{"tags":[""]}'),
    (DeviceBody, r'{"name":"\u0007"}'),
    (DeviceBody, '{"device_id":"a b"}'),
    (DeviceBody, '{"interval_s":"x"}'),
    (DeviceBody, '{"interval_s":0}'),
    (DeviceBody, '{"nonsense":0}'),
    (DeviceBody, '{"tz":"Mars"}'),
    (DeviceBody, '{"attributes":[]}'),
    (DeviceBody, '{"attributes":{"":1}}'),
    (DeviceBody, '{"attributes":{"a":null}}'),
    (ProfileBody, '{"metrics":[]}'),
    (ProfileBody, '{"metrics":{"x":5}}'),
    (ProfileBody, '{"metrics":{"x":{"min":2,"max":1}}}'),
    (ProfileBody, '{"receipts":1}'),
    (ProfileBody, '{"metrics":{"a b":{}}}'),
    (SilenceBody, r'{"device_id":"a","reason":"\u0000","to_time":"2030-01-01T00:00:00Z"}'),
    (SilenceBody, '{"rule_id":"r-1","to_time":"2030-01-01T00:00:00Z"}'),
    (RuleBody, '{"metric":"t","op":">","threshold":1,"channels":"ops"}'),
    (RuleBody, f'{{"metric":"t","op":">","threshold":1,"channels":{json.dumps(["a"] * 33)}}}'),
]


@pytest.mark.parametrize(("model", "body"), BODIES, ids=str)
def test_a_wrong_body_is_described_in_the_words_of_json(model: Any, body: str) -> None:
    with pytest.raises(ValidationError) as raised:
        model.model_validate_json(body)
    problem = invalid_body(raised.value)
    assert FOREIGN.search(str(problem)) is None, str(problem)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Expected `int`, got `str`", "an integer"),
        ("Expected `int | null`, got `str`", "an integer"),
        ("Expected `int` >= 1", "an integer >= 1"),
        ("Expected `float`, got `str`", "a number"),
        ("Field required", "required"),
        (
            "Dictionary should have at most 64 items after validation, not 65",
            "at most 64 items, not 65",
        ),
        (
            r"String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'",
            "a letter or digit, then up to 63 of [A-Za-z0-9._-]",
        ),
        (
            r"String should match pattern '^[A-Za-z0-9_.:/%-]{1,128}$'",
            "1 to 128 characters of [A-Za-z0-9_.:/%-]",
        ),
        (
            r"String should match pattern '^[^\x00-\x1f\x7f-\x9f]{1,128}$'",
            "a text of 1 to 128 characters without control characters",
        ),
        (r"String should match pattern '^[^\x00]*$'", "a text without NUL"),
        ("Value error, min must not be greater than max", "min must not be greater than max"),
        ("a sentence of our own", "a sentence of our own"),
    ],
)
def test_the_sentences_of_libraries_are_put_into_plain_words(said: str, shown: str) -> None:
    assert plain(said) == shown
