"""The broker: whether it answers, and whether it accepts the login of the settings."""

from uuid import uuid4

from broker.client.login_check import Refusal, try_login
from cli.doctor.check_result import GIVE_AUTH, CheckResult, failed, ok, warning
from runtime.errors import StartError
from runtime.settings import Settings

ANSWER_S_MAX = 5.0


async def check_broker(settings: Settings) -> CheckResult:
    """Connect as a client of its own, which leaves nothing behind."""
    address = settings.mqtt
    try:
        refusal = await try_login(address, f"voltwire-doctor-{uuid4().hex[:12]}", ANSWER_S_MAX)
    except StartError as error:  # Files that are no certificates.
        detail, _, remedy = str(error).rstrip(".").rpartition(": ")
        return failed("broker", detail, remedy)
    if refusal is None:
        return ok("broker", f"{address} answers and accepts the login of the settings")
    if refusal.asks_for_login and settings.authenticated and address.username is None:
        # Its password is for the client ids of Voltwire, which are in use.
        return ok(
            "broker", f"{address} answers, and accepts no stranger; the canary uses our login"
        )
    if refusal.asks_for_login and settings.mqtt_url is None:
        return warning("broker", f"{address} asks for a login, and AUTH is not on here", GIVE_AUTH)
    return failed("broker", f"{address} {_reason(refusal)}", _remedy(settings, refusal))


def _reason(refusal: Refusal) -> str:
    return refusal.trouble.partition(": ")[0]


def _remedy(settings: Settings, refusal: Refusal) -> str:
    """What the trouble says after its colon; the embedded broker only runs within `voltwire up`."""
    if settings.mqtt_url is None:
        return "start voltwire up, or name another broker in MQTT_URL"
    return refusal.trouble.partition(": ")[2]
