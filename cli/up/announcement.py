"""What `voltwire up` prints once everything works, and when it has stopped."""

import asyncio

import typer

from api.auth.upkeep import FIRST_KEY
from cli.program import program_path
from cli.roles.runner import Role
from runtime.addresses import http_url
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.access.credentials import any_admin_key
from schema.database import connect

POLL_S = 0.02


def announcer(announced: asyncio.Event) -> Role:
    """A role that says when everything works, and sets the event."""

    async def announce(settings: Settings, stop: asyncio.Event, health: Health, _: Metrics) -> None:
        while not health.ok and not stop.is_set():  # noqa: ASYNC110  # Once, at start.
            await asyncio.sleep(POLL_S)
        if not stop.is_set():
            typer.echo(_addresses(settings))
            if settings.authenticated:
                typer.echo(await _authentication(settings))
            announced.set()

    return announce


def stopped_message(settings: Settings) -> str:
    """Call it before the embedded server's address replaces the setting."""
    if settings.database_url is not None:
        return "Stopped. The data stays in the database of DATABASE_URL."
    return f"Stopped. The data stays in {settings.data_dir}."


async def _authentication(settings: Settings) -> str:
    connection = await connect(settings.dsn, f"{settings.instance} announcement")
    try:
        known = await any_admin_key(connection)
    finally:
        connection.terminate()
    if known:
        return "  Authentication is on."
    make_key = f"{program_path()} {FIRST_KEY.removeprefix('voltwire ')}"
    return f"  Authentication is on, and there is no admin key yet. This makes one:\n    {make_key}"


def _addresses(settings: Settings) -> str:
    base = http_url(settings.http_host, settings.http_port)
    lines = [
        "Voltwire is ready.",
        f"  Page      {base}/",
        f"  API       {base}/health",
        f"  Reference {base}/docs",
        f"  MQTT      {settings.mqtt}   publish to devices/<device_id>/telemetry",
    ]
    if settings.mqtt_url is None:
        lines.append(
            "  The embedded broker speaks MQTT 3.1.1 and keeps sessions and retained messages in"
            " memory only;\n  for production set MQTT_URL to a broker with persistence."
        )
    return "\n".join(lines)
