"""`voltwire ingest`: receives events from the broker and stores them, in one or several processes."""

from functools import partial
from typing import Annotated

import typer

from api.serve.workers import CHECK, Worker
from cli.roles.runner import Role, run_roles
from cli.roles.workers import WorkerOption, WorkersOption, as_worker, run_workers, shared_port
from cli.settings import command_settings
from runtime.broker_password import with_broker_password
from runtime.errors import ConfigurationError
from runtime.health import Health
from runtime.settings import Settings

MEMBERS_MAX = 1000


def ingest(
    workers: WorkersOption = 1,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MEMBERS_MAX,
            show_default="first + workers - 1",
            help="Ingestors of this instance on all machines together.",
        ),
    ] = None,
    first: Annotated[
        int,
        typer.Option(min=1, max=MEMBERS_MAX, help="Number of the first ingestor on this machine."),
    ] = 1,
    worker: WorkerOption = None,
) -> None:
    """Receive events from the broker, store them, then acknowledge them."""
    settings = command_settings()
    last = first + workers - 1
    total = last if members is None else members
    _require_members(settings, last, total)
    if workers == 1:
        with as_worker(worker):
            _run_ingestor(settings, first, total, worker)
        return

    def command(each: Worker) -> list[str]:
        number = first + each.number - 1
        return ["ingest", "--first", str(number), "--members", str(total)]

    with shared_port(settings.status_host, settings.status_port, "STATUS_PORT") as environment:
        run_workers(workers, command, environment)


def _run_ingestor(settings: Settings, number: int, total: int, worker: Worker | None) -> None:
    from api.run import run_status  # noqa: PLC0415  # The parent of several workers needs none of it.
    from ingestor.mqtt.member import Member, share_group  # noqa: PLC0415
    from ingestor.run import run  # noqa: PLC0415

    settings = with_broker_password(settings)
    group = share_group(settings.instance, settings.mqtt.password)
    member = Member(settings.instance, number, total, group)
    roles: list[Role] = [partial(run, member=member), partial(run_status, worker=worker)]
    checks = ["broker", "database", "schema", "storing"]
    if worker is not None:  # Nobody else stores what a silent worker holds.
        roles.append(worker.run)
        checks.append(CHECK)
    run_roles(settings, Health(tuple(checks)), *roles)


def _require_members(settings: Settings, last: int, total: int) -> None:
    """Raises ConfigurationError if the members cannot share the messages."""
    if last > total:
        raise ConfigurationError(
            f"Member {last} of {total}: --members counts the ingestors of all machines, so it must be"
            f" at least {last}."
        )
    if total > 1 and settings.mqtt.embedded:
        raise ConfigurationError(
            "Several ingestors need a broker with shared subscriptions, and the embedded one (MQTT"
            " 3.1.1) has none: set MQTT_URL, or start with --workers 1."
        )
    _ = settings.dsn  # Fails here once, not in each worker.
