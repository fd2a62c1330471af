"""A file of devices as registrations, or everything that is wrong with it. Pure.

A CSV file is read by api/imports/csv_file.py. Of an array each item is read by itself, so that the event loop
runs between them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

from api.http.bodies import faults_of
from api.imports.csv_file import read_csv
from api.imports.faults import ROW_BYTES_MAX, ROWS_MAX, TOO_MANY_ROWS, Faults
from api.store.registry import attributes_json
from ingestor.decode.large import TooManyItemsError, split
from ingestor.decode.text import fault_of_the_text
from runtime.errors import InvalidRequest
from schema.registry import NewDeviceBody

NO_ROWS = "There are no rows: nothing is imported."


class DeviceRow(NamedTuple):
    """`place` is the line of a CSV file where the row begins, or the index of an item.

    `registration` is the row as JSON for the database: ten thousand models would cost a garbage collection
    that holds up everything else.
    """

    place: int
    device_id: str
    profile: str | None
    registration: bytes


class Import(NamedTuple):
    """`faults` takes those that only the database knows."""

    rows: list[DeviceRow]
    faults: Faults


def read_rows(payload: bytes, *, is_csv: bool) -> Import:
    """Raises InvalidRequest with the faults of all rows."""
    faults = Faults("line" if is_csv else "item")
    rows = list(_rows(read_csv(payload, faults) if is_csv else _items(payload, faults), faults))
    if faults:
        raise faults.error()
    if not rows:
        raise InvalidRequest(NO_ROWS)
    return Import(rows, faults)


def _rows(written: Iterator[tuple[int, Any]], faults: Faults) -> Iterator[DeviceRow]:
    places: dict[str, int] = {}
    for place, fields in written:
        try:
            body = _body(fields)
        except ValidationError as error:
            for fault in faults_of(error):
                faults.add(place, fault["field"], fault["message"])
            continue
        first = places.setdefault(body.device_id, place)
        if first != place:
            faults.add(place, "device_id", f"{body.device_id} has a row already, {first}")
        yield DeviceRow(place, body.device_id, body.profile, _registration(body))


def _body(fields: Any) -> NewDeviceBody:
    """The registration in the text of an item, or in the cells of a line."""
    if isinstance(fields, bytes):
        return NewDeviceBody.model_validate_json(fields)
    return NewDeviceBody.model_validate(fields)


def _registration(body: NewDeviceBody) -> bytes:
    return msgspec.json.encode(
        {
            "device_id": body.device_id,
            "name": body.name,
            "profile": body.profile,
            "tags": list(dict.fromkeys(body.tags)),
            "attributes": msgspec.Raw(attributes_json(body).encode()),
            "interval_s": body.interval_s,
            "tz": body.tz,
        }
    )


def _items(payload: bytes, faults: Faults) -> Iterator[tuple[int, Any]]:
    try:
        texts = split(payload, ROWS_MAX)
    except TooManyItemsError:
        raise InvalidRequest(TOO_MANY_ROWS) from None
    except ValueError as error:
        if not payload.lstrip().startswith(b"["):
            raise InvalidRequest("The body must be a JSON array of devices.") from error
        what = fault_of_the_text(payload, error)
        raise InvalidRequest(f"The body must be a JSON array of devices; {what}.") from error
    for item, text in enumerate(texts):
        if len(text) > ROW_BYTES_MAX:
            faults.add(item, "", f"{len(text)} bytes, at most {ROW_BYTES_MAX} are accepted")
        else:
            yield item, text
