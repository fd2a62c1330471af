"""`voltwire up`: embedded PostgreSQL and broker as child processes, all roles in one event loop."""

import asyncio
from contextlib import ExitStack
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from api.run import run as run_api
from broker.client.login_check import until_accepted
from cli.database import database_errors
from cli.device_logins.lifecycle import UntilKnown
from cli.roles.runner import Role, run_roles
from cli.settings import command_settings
from cli.up.announcement import announcer, stopped_message
from cli.up.broker import AccountFeed, BrokerProcess, broker_part
from cli.up.embedded import EmbeddedPart, postgres_part, supervisor
from cli.up.ports import require_free
from ingestor.run import run as run_ingest
from runtime.broker_password import make_password, with_broker_password
from runtime.health import Health
from runtime.postgres.server import require_unowned
from runtime.settings import Settings
from scheduler.run import run as run_schedule
from schema.migrate import migrate

STOP_S_MAX = 8.0  # The roles and PostgreSQL share it: a command stops within ten seconds.
POSTGRES_STOP_S_MIN = 0.5


def up(
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Add 20 simulated devices.")] = False,
) -> None:
    """Run everything: PostgreSQL and broker (embedded unless configured), ingestor, API, scheduler."""
    _run(command_settings(), demo=demo)


def _run(settings: Settings, *, demo: bool) -> None:
    """Run until stopped. Raises StartError if a port or the data folder is in use."""
    if settings.database_url is None:
        require_unowned(settings.data_dir)
    require_free(settings.http_host, settings.http_port, "HTTP_PORT")
    if settings.mqtt_url is None:
        require_free(settings.mqtt_host, settings.mqtt_port, "MQTT_PORT")
    parts: list[EmbeddedPart[Any]] = []
    broker: EmbeddedPart[BrokerProcess] | None = None
    stopped = stopped_message(settings)
    typer.echo("Voltwire starts. Ctrl-C stops it.")
    postgres_stop_s = STOP_S_MAX
    with ExitStack() as stack:
        if settings.database_url is None:
            postgres = postgres_part(settings.data_dir, lambda: postgres_stop_s)
            parts.append(stack.enter_context(postgres))
            settings = settings.model_copy(update={"database_url": SecretStr(postgres.value)})
        if settings.mqtt_url is None:
            password = make_password()
            settings = settings.with_mqtt_password(password)
            broker = stack.enter_context(broker_part(settings.mqtt, password))
            parts.append(broker)
        else:
            settings = with_broker_password(settings)
        with database_errors("used"):
            asyncio.run(migrate(settings.as_owner().dsn, max_age_days=settings.max_event_age_days))
        roles: list[Role] = [run_ingest, run_api, run_schedule, supervisor(parts)]
        until_known: UntilKnown = until_accepted
        if broker is not None and settings.authenticated:
            accounts = AccountFeed(broker)
            roles.append(accounts.run)
            until_known = accounts.until_known
        roles += _announced(until_known, demo=demo)
        spent_s = run_roles(settings, Health(("broker", "database", "schema", "storing")), *roles)
        postgres_stop_s = max(POSTGRES_STOP_S_MIN, STOP_S_MAX - spent_s)
    typer.echo(stopped)


def _announced(until_known: UntilKnown, *, demo: bool) -> list[Role]:
    """The announcement, and what begins once it is out."""
    announced = asyncio.Event()
    roles = [announcer(announced)]
    if demo:
        from cli.demo.run import demo as demo_role  # noqa: PLC0415  # Without --demo, up starts faster.

        roles.append(demo_role(announced, until_known))
    return roles
