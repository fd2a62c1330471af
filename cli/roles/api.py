"""`voltwire api`: serves the HTTP API, in one or several processes."""

from functools import partial

from api.serve.workers import Worker
from cli.roles.runner import Role, run_roles
from cli.roles.workers import WorkerOption, WorkersOption, as_worker, run_workers, shared_port
from cli.settings import command_settings
from runtime.health import Health
from runtime.settings import Settings


def api(workers: WorkersOption = 1, worker: WorkerOption = None) -> None:
    """Serve the HTTP API."""
    settings = command_settings()
    _ = settings.dsn  # Fails here once, not in each worker.
    if workers == 1:
        with as_worker(worker):
            _run_api(settings, worker)
        return
    with shared_port(settings.http_host, settings.http_port, "HTTP_PORT") as environment:
        run_workers(workers, lambda _: ["api"], environment)


def _run_api(settings: Settings, worker: Worker | None) -> None:
    from api.run import run  # noqa: PLC0415  # The parent of several workers needs none of it.

    roles: list[Role] = [partial(run, worker=worker)]
    if worker is not None:
        roles.append(worker.run)
    run_roles(settings, Health(("database", "schema", "storing")), *roles)
