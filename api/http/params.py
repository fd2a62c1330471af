"""Query parameters: each one named, described and checked; what is not named is refused."""

import re
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from litestar import Request
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from runtime.errors import InvalidRequest
from schema.event import DEVICE_ID
from schema.instants import parse_query_instant

PAGE_ROWS_MAX = 1000
DEVICES_MAX = 1000  # Of one question.

Name = TypeVar("Name", bound=StrEnum)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = "RFC 3339; without offset it is UTC"
_DATE_TIME = {"format": "date-time"}
PageLimit = Annotated[
    int,
    QueryParameter(ge=1, le=PAGE_ROWS_MAX, description=f"Rows of a page, at most {PAGE_ROWS_MAX}"),
]
Cursor = Annotated[
    str | None, QueryParameter(description="From the Link header of the page before")
]
FromTime = Annotated[
    str | None,
    QueryParameter(description=f"First instant of the range. {_TIME}", schema_extra=_DATE_TIME),
]
ToTime = Annotated[
    str | None,
    QueryParameter(description=f"First instant after it. {_TIME}", schema_extra=_DATE_TIME),
]
RequiredTime = Annotated[str, QueryParameter(description=_TIME, schema_extra=_DATE_TIME)]
TimeZone = Annotated[str, QueryParameter(description="IANA name, for instance Europe/Berlin")]
# Written down, not asked for: what has another form names no device, which is a 404.
DeviceIdPath = Annotated[
    str, PathParameter(description="Device id", schema_extra={"pattern": DEVICE_ID})
]


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """A mistyped name must not silently widen a question, nor a second value take the place of the first."""
    asked = request.query_params.keys()
    if not asked:
        return
    known = {
        parameter.kwarg_definition.name or name: parameter
        for name, parameter in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }
    if unknown := sorted(set(asked) - known.keys()):
        offer = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise InvalidRequest(f"Unknown query parameter {', '.join(unknown)}: {offer}.")
    for name in asked:
        if known[name].has_inner_subclass_of(list):
            continue
        values = request.query_params.getall(name)
        if len(values) > 1:
            raise InvalidRequest(f"{name}: it can be given once only.")
        if values == ["null"] and not _is_text(known[name]):  # Litestar would take it for absent.
            raise InvalidRequest(f"{name}: null is no value.")


def _is_text(parameter: FieldDefinition) -> bool:
    return parameter.annotation is str or parameter.has_inner_subclass_of(str)


def instant(name: str, text: str) -> datetime:
    try:
        return parse_query_instant(text)
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}.") from error


def time_range(
    from_time: str | None, to_time: str | None
) -> tuple[datetime | None, datetime | None]:
    """The half-open range [from, to); None where it is open."""
    start = instant("from_time", from_time) if from_time is not None else None
    end = instant("to_time", to_time) if to_time is not None else None
    if start is not None and end is not None and start >= end:
        raise InvalidRequest("from_time must be before to_time.")
    return start, end


def known_name(name: str, text: str, names: type[Name]) -> Name:
    """One of the names that a parameter takes."""
    if text not in set(names):
        raise InvalidRequest(f"{name}: one of {', '.join(names)}.")
    return names(text)


def time_zone(name: str) -> ZoneInfo:
    if name not in _time_zones():
        raise InvalidRequest(f"tz: there is no time zone {name[:64]!r}; use an IANA name.")
    return ZoneInfo(name)


@cache
def _time_zones() -> frozenset[str]:
    """Read from the disk once; `localtime` and `Factory` mean something else on every server."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def day_in(zone: ZoneInfo, text: str) -> tuple[date, datetime, datetime]:
    """A calendar day of a zone and its half-open range: 23 or 25 hours when clocks change."""
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError("not a calendar date")  # noqa: TRY301  # As fromisoformat does.
        day = date.fromisoformat(text)
        start, end = (
            datetime(at.year, at.month, at.day, tzinfo=zone).astimezone(UTC)
            for at in (day, day + timedelta(days=1))
        )
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("date: a day such as 2026-02-01.") from error
    return day, start, end
