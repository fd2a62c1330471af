"""Bodies that handlers read as bytes: what they must be sent as, and how OpenAPI describes them."""

from typing import Any, TypeVar

from litestar import Request
from litestar.openapi.spec import OpenAPIMediaType, RequestBody
from pydantic import BaseModel, ValidationError

from runtime.errors import InvalidRequest, UnsupportedMediaType

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request[Any, Any, Any], model: type[Body]) -> Body:
    """Raises UnsupportedMediaType, or InvalidRequest that names each field at fault."""
    require_json(request)
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise invalid_body(error) from error


def require_same(name: str, told: str | None, in_path: str) -> None:
    """A body may repeat what the path names."""
    if told not in {None, in_path}:
        raise InvalidRequest(f"{name}: {told!r} is not {in_path!r}, which the path names.")


def require_json(request: Request[Any, Any, Any]) -> None:
    """Only application/json: it also keeps plain forms of foreign pages out."""
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")


def is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def json_body(schema: Any) -> RequestBody:
    """`schema` is a JSON schema as a dict."""
    return RequestBody(content={"application/json": OpenAPIMediaType(schema=schema)}, required=True)


def invalid_body(error: ValidationError) -> InvalidRequest:
    """Names each field at fault."""
    errors = [
        {"field": ".".join(map(str, fault["loc"])), "message": fault["msg"]}
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    named = "; ".join(f"{fault['field'] or 'body'}: {fault['message']}" for fault in errors)
    return InvalidRequest(named, errors=errors)


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A pydantic schema without `$defs`, which mean nothing inside an OpenAPI document."""
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
