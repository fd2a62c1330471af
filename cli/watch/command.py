"""`voltwire watch`: devices, values and alerts of a running system, live."""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from cli.api_client import UrlOption, api_client, key_header
from cli.output import AsJson, print_json
from cli.settings import command_settings
from cli.watch.fleet import WatchedFleet
from cli.watch.screen import lines, screen
from cli.watch.stream import TIMEOUT, Frame, LiveStream, Lost, Snapshot
from runtime.addresses import http_url
from runtime.errors import VoltwireError, ungrouped
from runtime.settings import Settings
from runtime.signals import stop_on_signals, unless_stopped
from schema.registry import is_device_id

DEVICES_MAX = 200  # The most that one stream may name.
DRAW_EVERY_S = 0.5


def _checked(device_ids: list[str] | None) -> list[str]:
    for each in device_ids or ():
        if not is_device_id(each):
            raise typer.BadParameter("a letter or digit, then up to 127 letters, digits or . _ : -")
    if len(device_ids or ()) > DEVICES_MAX:
        raise typer.BadParameter(f"at most {DEVICES_MAX} devices")
    return device_ids or []


def watch(
    *,
    device: Annotated[
        list[str] | None,
        typer.Option(callback=_checked, metavar="DEVICE_ID", help="Only this one; repeatable."),
    ] = None,
    url: UrlOption = None,
    as_json: AsJson = False,
) -> None:
    """Show devices, their newest values, and alerts, live.

    On a terminal it is a table with the devices in trouble first; elsewhere, and with --json, a line for each
    event, change of presence and alert. It connects again when the connection is lost. API_KEY needs
    the scope read if authentication is on. Ctrl-C ends it with exit code 0.
    """
    settings = command_settings()
    base = url or http_url(settings.http_host, settings.http_port)
    try:
        with ungrouped(VoltwireError, BrokenPipeError):
            asyncio.run(_watch(settings, base, device or [], as_json=as_json))
    except BrokenPipeError:  # The reading program has ended, as head does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _watch(settings: Settings, url: str, device_ids: Sequence[str], *, as_json: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with api_client(url, key_header(settings), TIMEOUT) as client:
        stream = LiveStream(client, device_ids)
        console = Console()
        drawn = console.is_terminal and not as_json
        work = _draw(stream, console) if drawn else _print(stream, as_json=as_json)
        await unless_stopped(stop, work)


async def _print(stream: LiveStream, *, as_json: bool) -> None:
    """The first frame after a lost connection holds all newest events; those that are known are left out."""
    newest: dict[str, str] = {}
    async for item in stream.items():
        if isinstance(item, Lost):
            typer.echo(f"No connection ({item.reason}): trying again …", err=True)
        elif isinstance(item, Frame):
            frame = _new_events(item, newest)
            if as_json:
                _print_json(frame)
            else:
                for line in lines(frame):
                    typer.echo(line)


def _new_events(frame: Frame, newest: dict[str, str]) -> Frame:
    if frame.kind != "latest":
        return frame
    new = [each for each in frame.data if newest.get(each["device_id"]) != each["event_id"]]
    newest |= {each["device_id"]: each["event_id"] for each in new}
    return Frame(frame.kind, new)


def _print_json(frame: Frame) -> None:
    if frame.kind != "latest":
        print_json({"type": frame.kind, **frame.data})
        return
    for event in frame.data:
        print_json({"type": "event", **event})


async def _draw(stream: LiveStream, console: Console) -> None:
    fleet, trouble = WatchedFleet(), Trouble()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow(stream, fleet, trouble))
            while True:
                now = datetime.now(UTC)
                live.update(screen(fleet, trouble.reason, now, console.height), refresh=True)
                await asyncio.sleep(DRAW_EVERY_S)


class Trouble:
    """Why there is no connection; None while there is one."""

    reason: str | None = None


async def _follow(stream: LiveStream, fleet: WatchedFleet, trouble: Trouble) -> None:
    async for item in stream.items():
        match item:
            case Snapshot():
                fleet.begin(item)
            case Frame():
                fleet.take(item)
            case Lost():
                trouble.reason = item.reason
                continue
        trouble.reason = None
