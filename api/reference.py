"""`/openapi.json` and `/docs`: Swagger UI from the installed wheel, so it works without the internet."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.router import Router
from litestar.static_files import create_static_files_router

from schema.version import VERSION

ASSETS = "/docs-assets"


def openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Voltwire",
        version=VERSION,
        description="Telemetry of battery devices: events, questions, alerts, presence.",
        path="/docs",
        use_handler_docstrings=False,
        render_plugins=[
            SwaggerRenderPlugin(
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
    return request.app.openapi_schema.to_schema()


def reference_assets() -> Router | HTTPRouteHandler:
    vendor = Path(str(files("swagger_ui_bundle") / "vendor"))
    (folder,) = vendor.glob("swagger-ui-5.*")
    return create_static_files_router(
        path=ASSETS, directories=[folder], include_in_schema=False, cache_control=None
    )
