"""`/health`, `/live` and `/metrics` of the API and, on a separate port, of the other roles."""

from typing import Any

from litestar import Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency

from api.auth.caller import caller
from api.auth.rights import may_read
from api.serve.workers import Worker, merged_health, merged_metrics, own_metrics
from runtime.health import Health
from runtime.settings import Settings
from runtime.version import VERSION

TEXT_FORMAT = "text/plain; version=0.0.4"  # The format of Prometheus; Litestar adds the charset.
WORKER = "worker"  # Key in the state of an application that shares its port with others.


@get(
    "/health",
    summary="Whether this role can do its job",
    description="With authentication on, version and checks are shown to keys with the scope read alone.",
    tags=["Operation"],
)
async def health(
    checks: NamedDependency[Health], settings: NamedDependency[Settings], state: State
) -> Response[dict[str, Any]]:
    worker: Worker | None = state.get(WORKER)
    document = checks.document(VERSION)
    if worker is not None:
        document = merged_health(await worker.reports(), checks)
    status_code = 200 if document["status"] == "ok" else 503
    if settings.authenticated and not may_read(caller().credential):
        document = {"status": document["status"]}
    return Response(document, status_code=status_code)


@get("/live", summary="Whether this process runs", tags=["Operation"])
async def live() -> dict[str, str]:
    return {"status": "ok"}


@get(
    "/metrics",
    summary="The metrics of this process, or of each worker",
    media_type=TEXT_FORMAT,
    tags=["Operation"],
)
async def metrics(state: State) -> Response[bytes]:
    """docs/operations.md explains each metric."""
    worker: Worker | None = state.get(WORKER)
    text = own_metrics() if worker is None else merged_metrics(await worker.reports())
    return Response(text, media_type=TEXT_FORMAT)
