"""The `voltwire` command: reads the settings once, runs one role, turns errors into exit codes.

0 success · 1 failure · 2 misuse (invalid arguments or settings).
"""

import asyncio
from functools import partial
from typing import Annotated

import typer

from api.serve.workers import CHECK, Worker
from cli.access import device, key
from cli.backup.backup import backup
from cli.backup.restore import restore
from cli.broker_files.command import broker_files
from cli.database import database_errors
from cli.doctor.command import doctor
from cli.help import CommandGroup
from cli.output import AsJson, print_json
from cli.replay import replay
from cli.retention import retention
from cli.roles import Role, run_roles
from cli.selftest.command import selftest
from cli.simulate import simulate
from cli.sql import sql
from cli.watch.command import watch
from runtime.broker_password import with_broker_password
from runtime.errors import ConfigurationError, VoltwireError
from runtime.health import Health
from runtime.logging import configure_logging
from runtime.settings import Settings, load_settings
from runtime.signals import fail_on_signals
from runtime.version import VERSION

WORKERS_MAX, MEMBERS_MAX = 64, 1000

WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, max=WORKERS_MAX, help="Processes that share the work.")
]
WorkerOption = Annotated[
    Worker | None,
    typer.Option(
        "--worker", parser=Worker.parse, hidden=True, help="Which of these processes this one is."
    ),
]


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point. A VoltwireError becomes one sentence on standard error."""
    try:
        app(standalone_mode=True)
    except ConfigurationError as error:
        _exit(str(error), 2)
    except VoltwireError as error:
        _exit(str(error), 1)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  # typer fixes the signature.
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
    """Telemetry of battery devices over MQTT, stored in PostgreSQL.

    Settings come from the environment and .env; docs/configuration.md explains each.
    """


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Add 20 simulated devices.")] = False,
) -> None:
    """Run everything: PostgreSQL and broker (embedded unless configured), ingestor, API, scheduler."""
    from cli.up.command import up as run_up  # noqa: PLC0415  # Other commands start faster.

    run_up(_settings(), demo=demo)


@app.command()
def broker(
    parent_on_stdin: Annotated[
        bool, typer.Option("--parent-on-stdin", hidden=True, help="As voltwire up starts it.")
    ] = False,
) -> None:
    """Run the embedded broker alone. It speaks MQTT 3.1.1 and keeps everything in memory."""
    from cli.broker import run, run_for_parent  # noqa: PLC0415

    run_roles(_settings(), Health(()), run_for_parent if parent_on_stdin else run)


@app.command()
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
    from cli.workers import as_worker, run_workers, shared_port  # noqa: PLC0415

    settings = _settings()
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


@app.command()
def api(workers: WorkersOption = 1, worker: WorkerOption = None) -> None:
    """Serve the HTTP API."""
    from cli.workers import as_worker, run_workers, shared_port  # noqa: PLC0415

    settings = _settings()
    _ = settings.dsn  # Fails here once, not in each worker.
    if workers == 1:
        with as_worker(worker):
            _run_api(settings, worker)
        return
    with shared_port(settings.http_host, settings.http_port, "HTTP_PORT") as environment:
        run_workers(workers, lambda _: ["api"], environment)


@app.command()
def schedule() -> None:
    """Detect silent devices, maintain partitions, publish alerts and presence over MQTT."""
    from api.run import run_status  # noqa: PLC0415
    from scheduler.run import run  # noqa: PLC0415

    settings = with_broker_password(_settings())
    run_roles(settings, Health(("database", "schema")), run, run_status)


@app.command()
def migrate(
    app_role: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also grant this database role what ingest, api and schedule need.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Migrate the database to this version. It is safe to repeat, also at the same time.

    It logs in with OWNER_DATABASE_URL, or DATABASE_URL if that is not set.
    """
    from schema.migrate import migrate as run_migrations  # noqa: PLC0415

    settings = _settings().as_owner()
    fail_on_signals("The migration was interrupted: run it again.")
    with database_errors("migrated"):
        applied = asyncio.run(
            run_migrations(
                settings.dsn, max_age_days=settings.max_event_age_days, app_role=app_role
            )
        )
    if as_json:
        print_json({"applied": applied, "app_role": app_role})
        return
    typer.echo(f"Applied {', '.join(applied)}." if applied else "The database is up to date.")
    if app_role is not None:
        typer.echo(f"The role {app_role} may read and write the tables, and change none of them.")


app.add_typer(device.app, name="device")
app.add_typer(key.app, name="key")
app.command()(watch)
app.command()(doctor)
app.command()(simulate)
app.command()(broker_files)
app.command()(replay)
app.command()(retention)
app.command()(selftest)
app.command()(backup)
app.command()(restore)
app.command(context_settings={"ignore_unknown_options": True})(sql)


def _run_ingestor(settings: Settings, number: int, total: int, worker: Worker | None) -> None:
    from api.run import run_status  # noqa: PLC0415
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


def _run_api(settings: Settings, worker: Worker | None) -> None:
    from api.run import run  # noqa: PLC0415

    roles: list[Role] = [partial(run, worker=worker)]
    if worker is not None:
        roles.append(worker.run)
    run_roles(settings, Health(("database", "schema", "storing")), *roles)


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


def _settings() -> Settings:
    settings = load_settings()
    configure_logging(settings)
    return settings


def _exit(sentence: str, code: int) -> None:
    typer.echo(sentence, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
