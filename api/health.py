"""`/health`, `/live` and `/metrics`, for the API and, on a port of their own, for the other roles."""

from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency
from prometheus_client import REGISTRY, generate_latest

from schema.health import Health
from schema.version import VERSION

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # Of Prometheus.


@get("/health", summary="Whether this role can do its job", tags=["Operation"])
async def health(checks: NamedDependency[Health]) -> Response[dict[str, Any]]:
    return Response(checks.document(VERSION), status_code=200 if checks.ok else 503)


@get("/live", summary="Whether this process works", tags=["Operation"])
async def live() -> dict[str, str]:
    return {"status": "ok"}


@get("/metrics", summary="What this process counts", media_type=TEXT_FORMAT, tags=["Operation"])
async def metrics() -> Response[bytes]:
    """In the format of Prometheus; docs/operations.md explains each."""
    return Response(generate_latest(REGISTRY), media_type=TEXT_FORMAT)
