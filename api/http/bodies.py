"""Request bodies that handlers read as bytes: their checks, and their description in OpenAPI."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from pydantic import BaseModel, BeforeValidator, ValidationError, WithJsonSchema

from runtime.errors import InvalidRequest, UnsupportedMediaType
from runtime.plain_words import plain
from schema.instants import EARLIEST, LATEST, parse_instant

JSON, CSV = "application/json", "text/csv"

Body = TypeVar("Body", bound=BaseModel)


def _instant(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("it must be an RFC 3339 text")  # noqa: TRY004  # pydantic reports ValueError.
    found = parse_instant(value)
    if not EARLIEST <= found <= LATEST:
        raise ValueError(f"it must lie between the years {EARLIEST.year} and {LATEST.year}")
    return found


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


async def read_body(request: Request[Any, Any, Any], model: type[Body]) -> Body:
    """Raises UnsupportedMediaType, or InvalidRequest that names each field at fault."""
    require_json(request)
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise invalid_body(error) from error


def require_same(name: str, in_body: str | None, in_path: str) -> None:
    """A body may repeat the name in the path, but not contradict it."""
    if in_body not in {None, in_path}:
        raise InvalidRequest(f"{name}: {in_body!r} differs from {in_path!r} in the path.")


def require_json(request: Request[Any, Any, Any]) -> None:
    """Accept only application/json, which the HTML forms of foreign sites cannot send."""
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    _require_no_encoding(request)


def require_json_or_csv(request: Request[Any, Any, Any]) -> bool:
    """Whether the body is a CSV file, which the forms of foreign sites cannot send either."""
    content_type = request.headers.get("content-type", "")
    media_type, _, parameters = content_type.lower().partition(";")
    is_csv = media_type.strip() == CSV
    if not is_csv and not is_json(content_type):
        raise UnsupportedMediaType(f"Send the body as Content-Type: {CSV} or {JSON}.")
    if "charset" in parameters and "utf-8" not in parameters:
        raise UnsupportedMediaType("Send the body in UTF-8.")
    _require_no_encoding(request)
    return is_csv


def _require_no_encoding(request: Request[Any, Any, Any]) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")


def is_json(content_type: str) -> bool:
    return content_type == JSON or content_type.partition(";")[0].strip().lower() == JSON


def operation_with_body(
    schema: dict[str, Any], *, or_csv: bool = False, required: bool = True
) -> type[Operation]:
    """The operation class of a handler that reads its body as bytes, so its schema is given here."""
    content = {JSON: OpenAPIMediaType(schema=inlined(schema))}  # type: ignore[arg-type]
    if or_csv:
        content[CSV] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
    body = RequestBody(content=content, required=required)

    @dataclass
    class OperationWithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = body

    return OperationWithBody


def invalid_body(error: ValidationError) -> InvalidRequest:
    """The error of the request, with the name of each field at fault."""
    faults = faults_of(error)
    named = "; ".join(f"{fault['field'] or 'body'}: {fault['message']}" for fault in faults)
    return InvalidRequest(named, errors=faults)


def faults_of(error: ValidationError) -> list[dict[str, str]]:
    """Each field at fault, and what is wrong with it in plain words."""
    return [
        {"field": _field(fault["loc"]), "message": plain(fault["msg"])}
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _field(place: tuple[int | str, ...]) -> str:
    """A name that is itself at fault is marked by pydantic, which concerns nobody."""
    return ".".join(str(part) for part in place if part != "[key]")


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Resolve the `$defs` of a pydantic schema, which have no meaning inside an OpenAPI document."""
    definitions = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        rest = {name: resolve(inner) for name, inner in value.items() if name != "$ref"}
        target = value.get("$ref")
        return rest if target is None else resolve(definitions[target.rpartition("/")[2]]) | rest

    resolved: dict[str, Any] = resolve(schema)
    return resolved
