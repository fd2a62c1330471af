"""Three commands that the demo shows, to be pasted into another terminal."""

from datetime import datetime, timedelta

from cli.demo.fleet import PREFIX
from cli.program import program_path
from runtime.addresses import http_url
from runtime.settings import Settings

SHOWN_DAYS = 30
KEY_NAME = "demo-visitor"
EVENT = '{"event_id":"m1","device_id":"my-device","metrics":{"temp":21.5}}'
MEANING = (
    "The first shows everything live, the second a month of a battery by days, and the third makes a"
    " device of your own, which appears on the page."
)


def commands_to_try(settings: Settings, now: datetime) -> str:
    """The commands, preceded by the line that makes a key where one is needed."""
    program = program_path()
    base = http_url(settings.http_host, settings.http_port)
    header = ' -H "Authorization: Bearer $API_KEY"' if settings.authenticated else ""
    lines = ["Try these in another terminal:"]
    if settings.authenticated:
        lines.append(f"  {_make_key(program)}   # first, once")
    lines += [
        f"  {program} watch{_url_option(base)}",
        f'  curl{header} "{_monthly_query(base, now)}"',
        f'  curl{header} "{base}/v1/events" -H "Content-Type: application/json" -d \'{EVENT}\'',
        MEANING,
    ]
    return "\n".join(lines)


def _url_option(base: str) -> str:
    fields = Settings.model_fields
    usual = http_url(fields["http_host"].default, fields["http_port"].default)
    return "" if base == usual else f" --url {base}"


def _monthly_query(base: str, now: datetime) -> str:
    first = (now - timedelta(days=SHOWN_DAYS)).date()
    last = (now + timedelta(days=1)).date()
    return (
        f"{base}/v1/metrics/aggregate?metric=soc_percent&device_id={PREFIX}-005&interval=1d"
        f"&from_time={first}T00:00:00Z&to_time={last}T00:00:00Z"
    )


def _make_key(program: str) -> str:
    make = f"{program} key create {KEY_NAME} --scope admin --json"
    return f"""export API_KEY=$({make} | sed 's/.*"secret": "\\([^"]*\\)".*/\\1/')"""
