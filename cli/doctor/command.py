"""`voltwire doctor`: what is wrong with this installation, and how to mend it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from cli.api_client import UrlOption
from cli.doctor.api import check_api
from cli.doctor.broker import check_broker
from cli.doctor.check_result import CheckResult, CheckStatus, failed, ok
from cli.doctor.database import check_database
from cli.doctor.machine import check_machine
from cli.output import AsJson, print_json, printable
from runtime.addresses import http_url
from runtime.errors import ConfigurationError
from runtime.logging import silence_logging
from runtime.settings import Settings, load_settings
from runtime.signals import fail_on_signals

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def doctor(*, url: UrlOption = None, as_json: AsJson = False) -> None:
    """Check settings, ports, database, broker and API, and say how to mend what is wrong.

    It changes nothing. The exit code is 1 if a check failed; warnings alone leave it 0.
    """
    fail_on_signals("Interrupted: run it again.")
    silence_logging()
    results = asyncio.run(_results(url))
    if as_json:
        print_json([asdict(each) for each in results])
    else:
        _show(results)
    if any(each.status is CheckStatus.FAILED for each in results):
        raise typer.Exit(1)


async def _results(url: str | None) -> list[CheckResult]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        remedy = "correct the environment or .env; docs/configuration.md explains each setting"
        return [failed("settings", str(error), remedy)]
    used = ok("settings", "they can be used")
    return [used, *[each async for each in _checks(settings, url)]]


async def _checks(settings: Settings, url: str | None) -> AsyncIterator[CheckResult]:
    for result in check_machine(settings):
        yield result
    async for result in check_database(settings):
        yield result
    yield await check_broker(settings)
    base = url or http_url(settings.http_host, settings.http_port)
    async for result in check_api(settings, base):
        yield result


def _show(results: Sequence[CheckResult]) -> None:
    """A line for each, and the remedy below it."""
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(each.check) for each in results)
    for each in results:
        line = Text(f"{each.status:8}", style=STYLES[each.status])
        line.append(f"{each.check:{width}}  ", style="bold")
        line.append(printable(each.detail), style="none")
        console.print(line)
        if each.remedy:
            console.print(Text(f"{'':8}{'':{width}}  → {each.remedy}."))
