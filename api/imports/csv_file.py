"""A CSV file (RFC 4180) of devices: its columns are the fields of a registration. Pure.

An empty cell is an absent field. `tags` are separated by semicolons, and `attributes.NAME` is an attribute.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from io import BytesIO, TextIOWrapper
from math import isfinite
from typing import Any

import msgspec

from api.imports.faults import ROW_BYTES_MAX, ROWS_MAX, TOO_MANY_ROWS, Faults
from runtime.errors import InvalidRequest
from schema.event import json_form
from schema.registry import NewDeviceBody

ATTRIBUTE = "attributes."
TAG_SEPARATOR = ";"
COLUMNS = tuple(name for name in NewDeviceBody.model_fields if name != "attributes")

_is_number = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
# What the csv module says, by its first words.
_FAULTS = {
    "unexpected end": "a cell in quotes has no closing quote",
    "',' expected": "something follows the closing quote of a cell",
    "field larger": f"a cell has more than {csv.field_size_limit():,} characters",
}


def read_csv(payload: bytes, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line where each row begins, and its fields. Raises InvalidRequest for a fault of the whole file."""
    lines = _lines(payload)
    header_line, header = next(lines, (1, []))
    columns = [cell.strip() for cell in header]
    _check_header(columns, header_line, faults)
    for count, (line, cells) in enumerate(() if faults else lines):
        if count == ROWS_MAX:
            raise InvalidRequest(TOO_MANY_ROWS)
        if len(cells) == len(columns):
            yield line, _fields(columns, cells)
        else:
            faults.add(line, "", f"{len(cells)} cells, and the header has {len(columns)}")


def _lines(payload: bytes) -> Iterator[tuple[int, list[str]]]:
    """The lines in which something is written; spreadsheets leave empty ones at the end.

    The text is read in small pieces: one step for all of it would hold the event loop.
    """
    reader = csv.reader(_pieces(payload), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _unreadable(line, _fault(error)) from error
        except UnicodeDecodeError as error:
            raise _unreadable(_line_without_utf8(payload), "not UTF-8") from error
        if cells is None:
            return
        if any(cells):
            yield line, cells


def _pieces(payload: bytes) -> Iterator[str]:
    text = TextIOWrapper(BytesIO(payload), encoding="utf-8-sig", newline="")
    number = 0
    while piece := text.readline(ROW_BYTES_MAX + 1):
        number += 1
        if len(piece) > ROW_BYTES_MAX:
            raise _unreadable(number, f"more than {ROW_BYTES_MAX:,} characters")
        yield piece


def _unreadable(line: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"line {line}: {what}. Nothing is imported.")


def _fault(error: csv.Error) -> str:
    said = str(error)
    return next((ours for theirs, ours in _FAULTS.items() if said.startswith(theirs)), "not CSV")


def _line_without_utf8(payload: bytes) -> int:
    try:
        payload.decode()
    except UnicodeDecodeError as bad:
        return payload.count(b"\n", 0, bad.start) + 1
    return 1


def _check_header(columns: Sequence[str], line: int, faults: Faults) -> None:
    if "device_id" not in columns:
        raise InvalidRequest(
            f"line {line}: the header has no column device_id. Its columns are the fields of a device,"
            " separated by commas. Nothing is imported."
        )
    seen = set[str]()
    for n, column in enumerate(columns):
        if column in seen:
            faults.add(line, column, "there are two columns of this name")
        elif column not in COLUMNS and (not column.startswith(ATTRIBUTE) or column == ATTRIBUTE):
            known = f"known are {', '.join(COLUMNS)} and {ATTRIBUTE}NAME"
            faults.add(line, column or f"column {n + 1}", f"no field of a device; {known}")
        seen.add(column)


def _fields(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if not cell:
            continue
        if column.startswith(ATTRIBUTE):
            fields.setdefault("attributes", {})[column.removeprefix(ATTRIBUTE)] = _attribute(cell)
        elif column == "tags":
            fields["tags"] = [tag.strip() for tag in cell.split(TAG_SEPARATOR) if tag.strip()]
        elif column == "interval_s" and _is_number(cell):
            fields[column] = float(cell)
        elif column in COLUMNS:  # Another one is a fault of the header.
            fields[column] = cell
    return fields


def _attribute(cell: str) -> float | str:
    """A number if it would be written in the same characters: 007, 1.10 and long serial numbers are texts."""
    try:
        number = float(cell)
    except ValueError:
        return cell
    if isfinite(number) and msgspec.json.encode(json_form(number)).decode() == cell:
        return number
    return cell
