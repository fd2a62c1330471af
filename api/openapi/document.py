"""`/openapi.json` and `/docs`: Swagger UI is served from the installed wheel, so it works offline."""

from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.params import PathParameter
from litestar.response import File
from litestar.router import Router

from api.auth.rights import Need, needed
from api.http.pages import json_text
from api.http.problems import PROBLEM, problem
from api.openapi.examples import add_examples
from api.openapi.responses import RESPONSES, Documented
from runtime.errors import NotFound
from runtime.version import VERSION
from schema.event import Reason

ASSETS = "/docs-assets"
# A page that frames the reference could have its visitors click on what changes something.
NEVER_FRAMED = {
    "content-security-policy": "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
AUTHENTICATED = "authenticated"  # Key in the state of the application.
PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for humans"},
        "reason": {
            "type": "string",
            "enum": list(Reason),
            "description": "Why the event was rejected",
        },
        "available_from": {
            "type": "string",
            "format": "date-time",
            "description": "If raw events are no longer kept: the first instant from which they are",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                    "line": {"type": "integer", "description": "The line of an imported CSV file"},
                    "item": {
                        "type": "integer",
                        "description": "The index in an imported array, from 0",
                    },
                },
            },
        },
    },
}
MAY_CONFLICT = {
    "POST /v1/devices",
    "POST /v1/devices/import",
    "PUT /v1/devices/{device_id}",
    "POST /v1/channels",
    "PUT /v1/channels/{name}",
    "POST /v1/keys",
    "DELETE /v1/keys/{name}",
    "POST /v1/devices/{device_id}/credentials",
    "POST /v1/session",
    "POST /v1/incidents/{incident_id}/ack",
}
SECRET = "secret"  # noqa: S105  # The name of the scheme below.
SECURITY_SCHEMES = {
    SECRET: {
        "type": "http",
        "scheme": "bearer",
        "description": "A key (`vwk_…`) with one of the scopes of the operation or `admin`; where the scope"
        " `ingest` suffices, also the secret of a device (`vwd_…`), for its own events.",
    }
}


class _SwaggerUI(SwaggerRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        def page() -> bytes:
            authenticated: bool = request.app.state[AUTHENTICATED]
            document = described(openapi_schema, authenticated=authenticated)
            return super(_SwaggerUI, self).render(request, document)

        return _made_once(request, "reference_page", page)


def _as_problem(response: Response[Any]) -> Response[Any]:
    """Litestar would answer other paths below `/docs` with a page of its own."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        return problem(HTTPStatus.NOT_FOUND, "Not Found")
    return response


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Voltwire",
        version=VERSION,
        description="Telemetry of battery devices: events, queries, alerts, presence.",
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            after_request=_as_problem,
            include_in_schema=False,
            response_headers=NEVER_FRAMED,
        ),
        use_handler_docstrings=False,
        render_plugins=[
            _SwaggerUI(
                path="/",
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" href="{ASSETS}/favicon-32x32.png">',
            )
        ],
    )


@get("/openapi.json", include_in_schema=False)
async def openapi_document(request: Request[Any, Any, Any]) -> Response[bytes]:
    def document() -> bytes:
        authenticated: bool = request.app.state[AUTHENTICATED]
        schema = request.app.openapi_schema.to_schema()
        return msgspec.json.encode(described(schema, authenticated=authenticated))

    return json_text(_made_once(request, "openapi_document", document))


def _made_once(request: Request[Any, Any, Any], name: str, make: Callable[[], bytes]) -> bytes:
    """Every other request waits a third of a second while it is made, and anybody may ask for it."""
    kept = request.app.state
    if name not in kept:
        kept[name] = make()
    made: bytes = kept[name]
    return made


def described(document: dict[str, Any], *, authenticated: bool) -> dict[str, Any]:
    """Litestar's document with the responses of api/openapi/responses.py, problem details and rights."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = SECURITY_SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            name = f"{method.upper()} {path}"
            add_examples(name, operation)
            responses = {
                str(status): _response(response, operation)
                for status, response in RESPONSES.get(name, {}).items()
            }
            for status in _problems_of(name, operation):
                responses.setdefault(str(int(status)), _problem(status))
            operation["responses"] = responses
            operation["security"] = _security(
                needed(method.upper(), path), optional=not authenticated
            )
    return document


def _security(need: Need, *, optional: bool) -> list[dict[str, list[str]]]:
    """The empty requirement means that nothing has to be shown (OpenAPI 3.1, 4.8.30)."""
    required = [] if need.nothing else [{SECRET: [str(scope) for scope in need.scopes]}]
    return [*required, {}] if optional or need.nothing else required


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """An optional parameter is absent, never null: a query string and a header have no null."""
    kinds = [kind for kind in schema.get("oneOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "oneOf"}
    return {**kinds[0], **rest}


def _response(response: Documented, operation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": "Done"}
    if content := response.content():
        found |= {"description": "The response", "content": content}
    if any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ())):
        link = {"description": 'The next page, rel="next"; absent on the last'}
        found["headers"] = {"Link": link | {"schema": {"type": "string"}}}
    if any(parameter["name"] == "max_points" for parameter in operation.get("parameters", ())):
        interval = {"description": "The interval that was chosen; only with `interval=auto`"}
        found["headers"] = {"X-Interval": interval | {"schema": {"type": "string"}}}
    return found


def reference_assets() -> HTTPRouteHandler:
    """The files of Swagger UI by their names, so that no other path can be asked for."""
    vendor = Path(str(files("swagger_ui_bundle") / "vendor"))
    (folder,) = vendor.glob("swagger-ui-5.*")
    assets = {path.name: path for path in folder.iterdir() if path.is_file()}

    @get(f"{ASSETS}/{{name:str}}", include_in_schema=False, sync_to_thread=False)
    def asset(name: Annotated[str, PathParameter()]) -> File:
        if name not in assets:
            raise NotFound("There is no such file of the reference.")
        media_type, _ = guess_type(name)
        return File(assets[name], media_type=media_type, content_disposition_type="inline")

    return asset


def _problems_of(name: str, operation: dict[str, Any]) -> list[HTTPStatus]:
    """All but 405, which belongs to no operation, and 500, which is a bug."""
    found = [HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.MISDIRECTED_REQUEST]
    found += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS]
    if name not in {"GET /live", "GET /health"}:
        found.append(HTTPStatus.SERVICE_UNAVAILABLE)
    if "{" in name:
        found.append(HTTPStatus.NOT_FOUND)
    if "requestBody" in operation:
        found += [HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE]
    if name in MAY_CONFLICT:
        found.append(HTTPStatus.CONFLICT)
    return found


def _problem(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": status.phrase,
        "content": {PROBLEM: {"schema": schema}},
    }
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        seconds = {"description": "Seconds to wait", "schema": {"type": "integer"}}
        response["headers"] = {"Retry-After": seconds}
    return response
