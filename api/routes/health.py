"""`/health`, `/live` and `/metrics`, for the API and, on a port of their own, for the other roles."""

from typing import Any

from litestar import Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency

from api.serve.workers import Worker, merged_health, merged_metrics, own_metrics
from runtime.health import Health
from runtime.version import VERSION

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"  # Of Prometheus.


WORKER = "worker"  # In the state of an application that is one of several on its port.


@get("/health", summary="Whether this role can do its job", tags=["Operation"])
async def health(checks: NamedDependency[Health], state: State) -> Response[dict[str, Any]]:
    worker: Worker | None = state.get(WORKER)
    document = checks.document(VERSION)
    if worker is not None:
        document = merged_health(await worker.reports(), checks)
    return Response(document, status_code=200 if document["status"] == "ok" else 503)


@get("/live", summary="Whether this process works", tags=["Operation"])
async def live() -> dict[str, str]:
    return {"status": "ok"}


@get(
    "/metrics",
    summary="What this process counts, or each worker",
    media_type=TEXT_FORMAT,
    tags=["Operation"],
)
async def metrics(state: State) -> Response[bytes]:
    """In the format of Prometheus; docs/operations.md explains each."""
    worker: Worker | None = state.get(WORKER)
    text = own_metrics() if worker is None else merged_metrics(await worker.reports())
    return Response(text, media_type=TEXT_FORMAT)
