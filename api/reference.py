"""`/openapi.json` and `/docs`: Swagger UI from the installed wheel, so it works without the internet."""

from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.router import Router
from litestar.static_files import create_static_files_router

from api.problems import PROBLEM
from schema.event import Reason
from schema.version import VERSION

ASSETS = "/docs-assets"
PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for people"},
        "reason": {"type": "string", "enum": list(Reason), "description": "Of a rejected event"},
        "available_from": {
            "type": "string",
            "format": "date-time",
            "description": "Of a question for raw events that are not kept any more: the first instant kept",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
RATE_LIMITED = {"/v1/events", "/telemetry"}


class _Reference(SwaggerRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, with_problems(openapi_schema))


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Voltwire",
        version=VERSION,
        description="Telemetry of battery devices: events, questions, alerts, presence.",
        path="/docs",
        use_handler_docstrings=False,
        render_plugins=[
            _Reference(
                path="/",
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" href="{ASSETS}/favicon-32x32.png">',
            )
        ],
    )


@get("/openapi.json", include_in_schema=False)
async def openapi_document(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return with_problems(request.app.openapi_schema.to_schema())


def with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Litestar documents its own errors; what this API answers are problem details."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            responses.pop("400", None)
            for status in _problems_of(path, method):
                responses.setdefault(str(int(status)), _problem(status))
    return document


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


def reference_assets() -> Router | HTTPRouteHandler:
    vendor = Path(str(files("swagger_ui_bundle") / "vendor"))
    (folder,) = vendor.glob("swagger-ui-5.*")
    return create_static_files_router(
        path=ASSETS, directories=[folder], include_in_schema=False, cache_control=None
    )


def _problems_of(path: str, method: str) -> list[HTTPStatus]:
    found = [HTTPStatus.UNPROCESSABLE_ENTITY]
    if path not in {"/live", "/health"}:
        found.append(HTTPStatus.SERVICE_UNAVAILABLE)
    if "{" in path:
        found.append(HTTPStatus.NOT_FOUND)
    if method == "post":
        found += [HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE]
    if path in RATE_LIMITED:
        found.append(HTTPStatus.TOO_MANY_REQUESTS)
    return found


def _problem(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    answer: dict[str, Any] = {
        "description": status.phrase,
        "content": {PROBLEM: {"schema": schema}},
    }
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        seconds = {"description": "Seconds to wait", "schema": {"type": "integer"}}
        answer["headers"] = {"Retry-After": seconds}
    return answer
