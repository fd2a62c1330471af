"""`voltwire schedule`: the scheduler as a role of its own."""

from api.run import run_status
from cli.roles.runner import run_roles
from cli.settings import command_settings
from runtime.broker_password import with_broker_password
from runtime.health import Health
from scheduler.run import run


def schedule() -> None:
    """Detect silent devices, maintain partitions, publish alerts and presence over MQTT."""
    settings = with_broker_password(command_settings())
    run_roles(settings, Health(("database", "schema")), run, run_status)
