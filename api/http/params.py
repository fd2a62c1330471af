"""Query parameters: each is declared, described and checked; undeclared ones are refused."""

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from litestar import Request
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from runtime.errors import InvalidRequest, NotFound
from schema.event import DEVICE_ID
from schema.instants import local_midnight, parse_query_instant
from schema.zones import zone_named, zone_names

PAGE_ROWS_MAX = 1000
DEVICES_MAX = 1000  # Per query.
TAGS_MAX = 32  # Per query: as many as an event carries.
TEXT_CHARACTERS_MAX = 128  # Ids, tags and names of metrics, as in schema/event.py.

Name = TypeVar("Name", bound=StrEnum)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = "RFC 3339; UTC if it has no offset"
_DATE_TIME = {"format": "date-time"}
PageLimit = Annotated[
    int,
    QueryParameter(ge=1, le=PAGE_ROWS_MAX, description=f"Rows per page, at most {PAGE_ROWS_MAX}"),
]
Cursor = Annotated[
    str | None,
    QueryParameter(description="From the Link header of the previous page"),
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
# The pattern is documented but not enforced: a text of another form names no device, which answers 404.
DeviceIdPath = Annotated[
    str, PathParameter(description="Device id", schema_extra={"pattern": DEVICE_ID})
]


async def check_target(request: Request[Any, Any, Any]) -> None:
    """Refuse a path that can name nothing, and unknown or repeated parameters."""
    if "\0" in request.scope["path"]:  # PostgreSQL stores no NUL in a text.
        raise NotFound("Nothing has a NUL (%00) in its path.")
    _refuse_unknown_parameters(request)


def _refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """A mistyped name would silently widen a query, and a second value would replace the first."""
    given = request.query_params.keys()
    if not given:
        return
    parameters = request.route_handler.parsed_fn_signature.parameters
    known = {public: parameters[name] for name, public in query_names(request).items()}
    if unknown := sorted(set(given) - known.keys()):
        offer = f"known are {', '.join(sorted(known))}" if known else "this path takes none"
        raise InvalidRequest(f"Unknown query parameter {', '.join(unknown)}: {offer}.")
    for name in given:
        if known[name].is_subclass_of(list) or known[name].has_inner_subclass_of(list):
            continue
        values = request.query_params.getall(name)
        if len(values) > 1:
            raise InvalidRequest(f"{name}: it may be given only once.")
        if values == ["null"] and not _is_text(known[name]):  # Litestar would read it as absent.
            raise InvalidRequest(f"{name}: null is not accepted.")


def query_names(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The query parameters of the route: their names in its signature, and those that clients write."""
    return {
        name: parameter.kwarg_definition.name or name
        for name, parameter in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }


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
    if from_time is not None and to_time is not None:
        return required_range(from_time, to_time)
    start = instant("from_time", from_time) if from_time is not None else None
    end = instant("to_time", to_time) if to_time is not None else None
    return start, end


def required_range(
    from_time: str, to_time: str, names: tuple[str, str] = ("from_time", "to_time")
) -> tuple[datetime, datetime]:
    """The half-open range [from, to), not empty."""
    start, end = map(instant, names, (from_time, to_time))
    if start >= end:
        raise InvalidRequest(f"{names[0]} must be before {names[1]}.")
    return start, end


def known_name(name: str, text: str, names: type[Name]) -> Name:
    """The member of `names` that a parameter gives."""
    if text not in set(names):
        raise InvalidRequest(f"{name}: it must be one of {', '.join(names)}.")
    return names(text)


def optional_name(name: str, text: str | None, names: type[Name]) -> Name | None:
    return None if text is None else known_name(name, text, names)


def require_no_nul(name: str, *texts: str | None) -> None:
    """PostgreSQL stores no NUL in a text."""
    if any("\0" in text for text in texts if text is not None):
        raise InvalidRequest(f"{name}: it must not contain NUL.")


def short_text(name: str, text: str) -> str:
    """An id, a tag or the name of a metric."""
    if not 1 <= len(text) <= TEXT_CHARACTERS_MAX:
        raise InvalidRequest(f"{name}: it must have 1 to {TEXT_CHARACTERS_MAX} characters.")
    require_no_nul(name, text)
    return text


def short_texts(name: str, texts: Iterable[str] | None) -> list[str]:
    return [short_text(name, text) for text in texts or ()]


def time_zone(name: str) -> ZoneInfo:
    name = name.replace(" ", "+")  # No name holds a space; a `+` in a query string arrives as one.
    if name not in zone_names():
        raise InvalidRequest(f"tz: there is no time zone {name[:64]!r}; use an IANA name.")
    return zone_named(name)


def day_in(zone: ZoneInfo, text: str) -> tuple[date, datetime, datetime]:
    """A calendar day of a zone and its half-open range: 23 or 25 hours when clocks change."""
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError("not a calendar date")  # noqa: TRY301  # As fromisoformat does.
        day = date.fromisoformat(text)
        start, end = (local_midnight(each, zone) for each in (day, day + timedelta(days=1)))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("date: it must be a day such as 2026-02-01.") from error
    return day, start, end
