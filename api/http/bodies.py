"""Request bodies that handlers read as bytes: their checks, and their description in OpenAPI."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody
from pydantic import BaseModel, BeforeValidator, ValidationError, WithJsonSchema

from api.http.messages import plain
from runtime.errors import InvalidRequest, UnsupportedMediaType
from schema.instants import EARLIEST, LATEST, parse_instant

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
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")


def is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def operation_with_body(
    schema: dict[str, Any], example: dict[str, Any] | None = None, *, required: bool = True
) -> type[Operation]:
    """The operation class of a handler that reads its body as bytes, so its schema is given here."""
    media_type = OpenAPIMediaType(schema=inlined(schema), example=example)  # type: ignore[arg-type]
    body = RequestBody(content={"application/json": media_type}, required=required)

    @dataclass
    class OperationWithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = body

    return OperationWithBody


def invalid_body(error: ValidationError) -> InvalidRequest:
    """The error of the request, with the name of each field at fault."""
    errors = [
        {"field": ".".join(map(str, fault["loc"])), "message": plain(fault["msg"])}
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    named = "; ".join(f"{fault['field'] or 'body'}: {fault['message']}" for fault in errors)
    return InvalidRequest(named, errors=errors)


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
