"""Compares a response of the API with the rows that the oracle expects."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.oracle.buckets import FIXED
from tests.support.oracle.oracle import DIGITS, SMALLEST, Near, Row

RELATIVE = Decimal("1e-9")

_BUCKET = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})"
)


def rows_of_columns(response: Any, keys: Sequence[str]) -> list[Row]:
    """The rows of a response in columns: an object, or one per group. Raises ValueError for another form."""
    rows: list[Row] = []
    groups: list[tuple[str, ...]] = []
    for found in response if keys else [response]:
        if list(found)[: len(keys) + 1] != [*keys, "bucket"]:
            raise ValueError(f"members {list(found)}")
        group = {key: found.pop(key) for key in keys}
        groups.append(tuple(group.values()))
        for values in zip(*found.values(), strict=True):
            bucket, *stats = values
            rows.append({"bucket": bucket} | group | dict(zip(list(found)[1:], stats, strict=True)))
    if groups != sorted(set(groups), key=lambda group: [name.encode() for name in group]):
        raise ValueError(f"the order of groups {groups}")
    return sorted(
        rows,
        key=lambda row: (
            datetime.fromisoformat(row["bucket"]),
            [row[key].encode() for key in keys],
        ),
    )


def difference(
    expected: Sequence[Row], response: str, tz: str, columns_of: Sequence[str] | None = None
) -> str | None:
    """The first difference between a response and the expected rows; None if there is none.

    `columns_of`: the response is in columns, and these are the keys of its groups.
    """
    rows = read(response) if columns_of is None else rows_of_columns(read(response), columns_of)
    if not isinstance(rows, list):
        return f"no array: {response[:200]}"
    for place, (wanted, row) in enumerate(zip(expected, rows, strict=False)):
        if list(row) != list(wanted):
            return f"row {place}: {row}, expected the members {list(wanted)}"
        if faults := [name for name in wanted if not _is(name, wanted[name], row[name], tz)]:
            shown = {name: shown_number(value) for name, value in wanted.items()}
            return f"row {place}, {', '.join(faults)}: {row}, expected {shown}"
    if len(rows) != len(expected):
        more = (rows if len(rows) > len(expected) else expected)[min(len(rows), len(expected))]
        return f"{len(rows)} rows, expected {len(expected)}; the next one is {more}"
    return None


class Pointed(float):
    """A number written with a decimal point."""


def read(response: str) -> Any:
    def number(text: str) -> float:
        return Pointed(text) if "." in text else float(text)

    return json.loads(response, parse_float=number)


def is_number(wanted: Near | int | None, got: Any) -> bool:
    """Whether a member of a response is that number, written as it must be."""
    if wanted is None or isinstance(wanted, int):
        return type(got) is type(wanted) and bool(got == wanted)
    if not isinstance(got, int | float) or isinstance(got, bool):
        return False
    if isinstance(got, Pointed) and got.is_integer() and abs(got) < 2**53:
        return False
    if wanted.exact:  # JSON readers may read long integers as doubles.
        return bool(float(got) == float(wanted.value))
    with localcontext(DIGITS):
        missed = abs(Decimal(got) - wanted.value)
        return missed <= wanted.value.copy_abs() * RELATIVE + wanted.slack + SMALLEST


def shown_number(value: Any) -> Any:
    return float(value.value) if isinstance(value, Near) else value


def _is(name: str, wanted: Any, got: Any, tz: str) -> bool:
    if name == "bucket":
        return _is_bucket(wanted, got, tz)
    if name in {"metric", "device_id", "tag", "device_tag"}:
        return bool(wanted == got)
    return is_number(wanted, got)


def _is_bucket(wanted: datetime, got: Any, tz: str) -> bool:
    """The offset is in whole minutes, unlike historical local mean times."""
    if not isinstance(got, str) or _BUCKET.fullmatch(got) is None:
        return False
    at, offset = datetime.fromisoformat(got), wanted.astimezone(ZoneInfo(tz)).utcoffset()
    shown = at.utcoffset()
    assert offset is not None
    assert shown is not None
    return at == wanted and abs(shown - offset) < FIXED["m"] and (tz != "UTC" or got[-1] == "Z")
