"""How `voltwire watch` draws the fleet on a terminal, and writes it elsewhere. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.output import printable
from cli.watch.fleet import ALERTS, ShownAlert, WatchedDevice, WatchedFleet, shown_alert
from cli.watch.stream import Frame
from schema.alert import AlertState
from schema.presence import PresenceState

STYLES: dict[str, str] = {
    PresenceState.OFFLINE: "bold red",
    PresenceState.LATE: "yellow",
    PresenceState.ONLINE: "green",
    PresenceState.ASLEEP: "blue",
    PresenceState.NEVER_SEEN: "dim",
    AlertState.FIRING: "bold red",
    AlertState.ACKNOWLEDGED: "yellow",
    AlertState.RESOLVED: "green",
}
ALERTS_SHOWN = 8
OTHER_LINES = 6  # The line above, the headings, and what separates the parts.
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


def screen(fleet: WatchedFleet, trouble: str | None, now: datetime, height: int) -> RenderableType:
    """Draw as much as fits: devices in trouble first, the newest alerts below."""
    alerts = list(fleet.alerts)[:ALERTS_SHOWN]
    devices = fleet.sorted_devices()
    rows = max(1, height - len(alerts) - OTHER_LINES)
    parts: list[RenderableType] = [_head(fleet, trouble), _devices(devices[:rows], now)]
    if len(devices) > rows:
        parts.append(Text(f"… and {len(devices) - rows} more devices", style="dim"))
    if not devices:
        parts.append(Text("No device has sent anything yet. docs/examples.md shows how to send."))
    if alerts:
        parts += [Text(), _alerts(alerts)]
    return Group(*parts)


def lines(frame: Frame) -> Iterator[str]:
    """A line for each event, change and alert."""
    if frame.kind == "latest":
        for event in frame.data:
            yield f"{event['timestamp']} {event['device_id']} {_values(event['metrics'])}"
    elif frame.kind == "presence":
        change = frame.data
        yield f"{change['since']} {change['device_id']} is {change['state']} ({change['reason']})"
    elif frame.kind in ALERTS:
        alert = shown_alert(frame)
        yield f"{alert.at} {alert.device_id} {alert.state}: {printable(alert.text)}"


def _head(fleet: WatchedFleet, trouble: str | None) -> Text:
    head = Text(f"{len(fleet.devices)} devices", style="bold")
    for state, number in fleet.counts():
        head.append(f"  {number} {state}", style=STYLES[state])
    if not fleet.complete:
        head.append("  (the first of more; values need --device)", style="dim")
    if trouble is not None:
        head.append(f"  No connection ({printable(trouble)}): trying again …", style="bold red")
    else:
        head.append("  Ctrl-C ends it.", style="dim")
    return head


def _devices(devices: list[WatchedDevice], now: datetime) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0))
    for heading in ("device", "name", "state", "last seen"):
        table.add_column(heading, no_wrap=True)
    table.add_column("values", no_wrap=True, overflow="ellipsis", ratio=1)
    for device in devices:
        marks = " !" if device.open_incidents else ""
        table.add_row(
            Text(device.device_id),
            Text(printable(device.name or "")),
            Text(f"{device.state}{marks}", style=STYLES[device.state]),
            Text(_ago(device.last_seen, now)),
            Text(_values(device.values)),
        )
    return table


def _alerts(alerts: list[ShownAlert]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0))
    for heading in ("alert at", "device", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rule", no_wrap=True, overflow="ellipsis", ratio=1)
    for alert in alerts:
        state = Text(alert.state, style=STYLES[alert.state])
        at = alert.at[:19].replace("T", " ")
        table.add_row(Text(at), Text(alert.device_id), state, Text(printable(alert.text)))
    return table


def _values(values: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value}" for name, value in sorted(values.items()))


def _ago(then: datetime | None, now: datetime) -> str:
    if then is None:
        return "never"
    seconds = max(0.0, (now - then).total_seconds())
    for unit, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds:.0f} s ago"
