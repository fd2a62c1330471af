"""The `voltwire` command: reads the settings once, runs one role, turns errors into exit codes.

0 success · 1 failure · 2 misuse (arguments or settings that mean nothing).
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

import typer
from prometheus_client import REGISTRY

from api.serve.workers import CHECK, Worker
from cli.replay import replay
from cli.retention import retention
from cli.selftest.command import selftest
from cli.simulate import simulate
from runtime.errors import ConfigurationError, VoltwireError
from runtime.health import Health
from runtime.logging import configure_logging
from runtime.metrics import Metrics
from runtime.settings import Settings, load_settings
from runtime.signals import fail_on_signals, finish_in_time, stop_on_signals
from runtime.version import VERSION
from schema.database import DATABASE_ERRORS, watch
from schema.event import Reason

Role = Callable[[Settings, asyncio.Event, Health, Metrics], Coroutine[Any, Any, None]]

WORKERS_MAX, MEMBERS_MAX = 64, 1000

WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, max=WORKERS_MAX, help="Processes to share the work.")
]
WorkerOption = Annotated[
    Worker | None,
    typer.Option("--worker", parser=Worker.parse, hidden=True, help="One of them is started so."),
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point. Every error of ours is one sentence on standard error."""
    try:
        app(standalone_mode=True)
    except ConfigurationError as error:
        _end(str(error), 2)
    except VoltwireError as error:
        _end(str(error), 1)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  # typer's signature of a callback.
    if wanted:
        typer.echo(f"voltwire {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Telemetry of battery devices over MQTT, kept in PostgreSQL.

    Settings come from the environment and .env; docs/configuration.md explains each.
    """


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Add 20 simulated devices.")] = False,
) -> None:
    """Run everything: PostgreSQL and broker (embedded unless named), ingestor, API, scheduler."""
    from cli.up import up as run_up  # noqa: PLC0415  # The other commands start faster without.

    run_up(_settings(), demo=demo)


@app.command()
def broker() -> None:
    """Run the embedded broker alone. It speaks MQTT 3.1.1 and keeps everything in memory."""
    from broker.embedded import server  # noqa: PLC0415

    settings = _settings()

    async def run(settings: Settings, stop: asyncio.Event, _: Health, __: Metrics) -> None:
        await server.run(settings.mqtt_host, settings.mqtt_port, stop)

    run_roles(settings, Health(()), run)


@app.command()
def ingest(
    workers: WorkersOption = 1,
    members: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MEMBERS_MAX,
            show_default="first + workers - 1",
            help="Members of the instance on all machines together.",
        ),
    ] = None,
    first: Annotated[
        int, typer.Option(min=1, max=MEMBERS_MAX, help="Number of the first one on this machine.")
    ] = 1,
    worker: WorkerOption = None,
) -> None:
    """Receive from the broker, store, acknowledge."""
    from cli.workers import as_worker, run_workers, shared_port  # noqa: PLC0415

    settings = _settings()
    last = first + workers - 1
    total = last if members is None else members
    _require_members(settings, last, total)
    if workers == 1:
        with as_worker(worker):
            _ingest_as(settings, first, total, worker)
        return

    def command(each: Worker) -> list[str]:
        number = first + each.number - 1
        return ["ingest", "--first", str(number), "--members", str(total)]

    with shared_port(settings.status_host, settings.status_port, "STATUS_PORT") as environment:
        run_workers(workers, command, environment)


@app.command()
def api(workers: WorkersOption = 1, worker: WorkerOption = None) -> None:
    """Answer over HTTP."""
    from cli.workers import as_worker, run_workers, shared_port  # noqa: PLC0415

    settings = _settings()
    _ = settings.dsn  # A fault of it is said once, not by each worker.
    if workers == 1:
        with as_worker(worker):
            _answer_as(settings, worker)
        return
    with shared_port(settings.http_host, settings.http_port, "HTTP_PORT") as environment:
        run_workers(workers, lambda _: ["api"], environment)


@app.command()
def schedule() -> None:
    """Watch for silence, keep the partitions, deliver alerts and presence over MQTT."""
    from api.run import run_status  # noqa: PLC0415
    from scheduler.run import run  # noqa: PLC0415

    run_roles(_settings(), Health(("database", "schema")), run, run_status)


@app.command()
def migrate() -> None:
    """Bring the database up to this version; harmless when repeated or started several times."""
    from schema.migrate import migrate as run_migrations  # noqa: PLC0415

    settings = _settings()
    fail_on_signals("The migration was interrupted: run it again.")
    try:
        applied = asyncio.run(
            run_migrations(settings.dsn, max_age_days=settings.max_event_age_days)
        )
    except DATABASE_ERRORS as error:
        _end(
            f"The database cannot be migrated: {error}. Check DATABASE_URL and PGPASSWORD.",
            1,
        )
    typer.echo(f"Applied {', '.join(applied)}." if applied else "The database is up to date.")


app.command()(simulate)
app.command()(replay)
app.command()(retention)
app.command()(selftest)


def _ingest_as(settings: Settings, number: int, total: int, worker: Worker | None) -> None:
    from api.run import run_status  # noqa: PLC0415
    from ingestor.mqtt.member import Member  # noqa: PLC0415
    from ingestor.run import run  # noqa: PLC0415

    member = Member(settings.instance, number, total)
    roles: list[Role] = [partial(run, member=member), partial(run_status, worker=worker)]
    checks = ["broker", "database", "schema", "storing"]
    if worker is not None:  # What a silent one holds is stored by nobody.
        roles.append(worker.run)
        checks.append(CHECK)
    run_roles(settings, Health(tuple(checks)), *roles)


def _answer_as(settings: Settings, worker: Worker | None) -> None:
    from api.run import run  # noqa: PLC0415

    roles: list[Role] = [partial(run, worker=worker)]
    if worker is not None:
        roles.append(worker.run)
    run_roles(settings, Health(("database", "schema", "storing")), *roles)


def _require_members(settings: Settings, last: int, total: int) -> None:
    """Raises ConfigurationError if they cannot share what comes in."""
    if last > total:
        raise ConfigurationError(
            f"Member {last} of {total}: --members counts those of all machines, --first - 1 of them"
            " before ours."
        )
    if total > 1 and settings.mqtt.embedded:
        raise ConfigurationError(
            "Several ingestors need a broker with shared subscriptions, which the embedded one (MQTT"
            " 3.1.1) has not: set MQTT_URL, or start with --workers 1."
        )
    _ = settings.dsn  # A fault of it is said once, not by each worker.


def run_roles(settings: Settings, health: Health, *roles: Role) -> float:
    """Run roles in one loop until they end or a signal stops them. Raises the first fault.

    Returns how many seconds the stopping took.
    """
    # Events live for one batch and hold no cycles: looking for some every 700 objects costs a third.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    fault: VoltwireError | None = None
    seconds = 0.0
    try:
        seconds = _loop_runner()(_work(settings, health, roles))
    except BaseExceptionGroup as group:
        fault = _first_of_ours(group)
        if fault is None:
            raise
    if fault is not None:  # Outside the handler: one sentence, not the tree it came in.
        raise fault
    return seconds


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> VoltwireError | None:
    """Ours only if nothing unexpected is among them: that must be seen in full."""
    ours, others = group.split(VoltwireError)
    if ours is None or others is not None:
        return None
    first: BaseException = ours
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, VoltwireError) else None


async def _work(settings: Settings, health: Health, roles: tuple[Role, ...]) -> float:
    stop = asyncio.Event()
    stop_on_signals(stop)
    metrics = Metrics(REGISTRY, tuple(Reason))
    metrics.watch(health)

    async def all_roles() -> None:
        async with asyncio.TaskGroup() as group:
            watching: asyncio.Task[None] | None = None
            if settings.database_url is not None:
                name = f"{settings.instance} watch"
                watching = group.create_task(watch(settings.dsn, name, health))
            async with asyncio.TaskGroup() as working:
                for role in roles:
                    working.create_task(role(settings, stop, health, metrics))
            if watching is not None:
                watching.cancel()

    return await finish_in_time(asyncio.create_task(all_roles()), stop)


def _settings() -> Settings:
    settings = load_settings()
    configure_logging(settings)
    return settings


def _loop_runner() -> Callable[[Any], float]:
    if sys.platform == "win32":
        return asyncio.run
    import uvloop  # noqa: PLC0415

    return uvloop.run


def _end(sentence: str, code: int) -> None:
    typer.echo(sentence, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
