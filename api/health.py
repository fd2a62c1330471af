"""`/health` and `/live`, for the API and, on a port of their own, for the other roles."""

from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency

from schema.health import Health
from schema.version import VERSION


@get("/health", summary="Whether this role can do its job", tags=["Operation"])
async def health(checks: NamedDependency[Health]) -> Response[dict[str, Any]]:
    return Response(checks.document(VERSION), status_code=200 if checks.ok else 503)


@get("/live", summary="Whether this process works", tags=["Operation"])
async def live() -> dict[str, str]:
    return {"status": "ok"}
