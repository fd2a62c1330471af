"""What is known of the fleet while its stream goes on. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cli.watch.stream import Frame, Snapshot
from schema.alert import SILENT_RULE
from schema.instants import parse_instant
from schema.presence import PresenceState

ALERTS_KEPT = 50
TROUBLE_FIRST = (
    PresenceState.OFFLINE,
    PresenceState.LATE,
    PresenceState.ONLINE,
    PresenceState.ASLEEP,
    PresenceState.NEVER_SEEN,
)
ALERTS = {"alert": "firing", "acknowledged": "acknowledged", "resolved": "resolved"}


@dataclass(slots=True)
class WatchedDevice:
    device_id: str
    state: str = PresenceState.NEVER_SEEN
    name: str | None = None
    last_seen: datetime | None = None
    values: dict[str, Any] = field(default_factory=dict)
    open_incidents: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ShownAlert:
    at: str
    device_id: str
    state: str
    text: str


class WatchedFleet:
    """Frames change it, and the screen shows it."""

    def __init__(self) -> None:
        self.devices: dict[str, WatchedDevice] = {}
        self.alerts: deque[ShownAlert] = deque(maxlen=ALERTS_KEPT)
        self.complete = True

    def begin(self, snapshot: Snapshot) -> None:
        """Values stay: the first frame brings newer ones."""
        known, self.devices = self.devices, {}
        for row in snapshot.devices:
            device = self._device(row["device_id"])
            device.name, device.state = row["name"], row["state"]
            device.last_seen = _instant(row["last_seen"])
            device.values = known[row["device_id"]].values if row["device_id"] in known else {}
        self.alerts.clear()
        for incident in reversed(snapshot.incidents):
            self._device(incident["device_id"]).open_incidents.add(incident["id"])
            self.alerts.appendleft(_of_incident(incident))
        self.complete = snapshot.complete

    def take(self, frame: Frame) -> None:
        if frame.kind == "latest":
            for event in frame.data:
                self._take_event(event)
        elif frame.kind == "presence":
            device = self._device(frame.data["device_id"])
            device.state = frame.data["state"]
            device.last_seen = _instant(frame.data["last_seen"]) or device.last_seen
        elif frame.kind in ALERTS:
            self._take_alert(frame)

    def sorted_devices(self) -> list[WatchedDevice]:
        """Trouble first."""
        return sorted(self.devices.values(), key=_rank)

    def counts(self) -> Iterator[tuple[str, int]]:
        states = [each.state for each in self.devices.values()]
        for state in TROUBLE_FIRST:
            if number := states.count(state):
                yield state, number

    def _take_event(self, event: dict[str, Any]) -> None:
        device = self._device(event["device_id"])
        device.values |= event["metrics"]
        received = _instant(event["received_at"])
        if received is not None and (device.last_seen is None or received > device.last_seen):
            device.last_seen = received

    def _take_alert(self, frame: Frame) -> None:
        alert = frame.data
        device = self._device(alert["device_id"])
        if frame.kind == "resolved":
            device.open_incidents.discard(alert["incident_id"])
        elif alert["incident_id"] is not None and not alert["late"]:
            device.open_incidents.add(alert["incident_id"])
        self.alerts.appendleft(shown_alert(frame))

    def _device(self, device_id: str) -> WatchedDevice:
        return self.devices.setdefault(device_id, WatchedDevice(device_id))


def shown_alert(frame: Frame) -> ShownAlert:
    alert = frame.data
    return ShownAlert(
        alert["timestamp"],
        alert["device_id"],
        ALERTS[frame.kind],
        _condition(alert, alert["value"]),
    )


def _of_incident(incident: dict[str, Any]) -> ShownAlert:
    text = _condition(incident, incident["opened_value"])
    return ShownAlert(incident["opened_at"], incident["device_id"], incident["state"], text)


def _condition(alert: dict[str, Any], value: float | None) -> str:
    """The name of the rule and what its metric was, as far as it is known."""
    name = alert["rule_name"] or ("silent" if alert["rule_id"] == SILENT_RULE else alert["rule_id"])
    if alert["metric"] is None:
        return str(name)
    if value is None or alert["op"] is None:
        return f"{name}: {alert['metric']}"
    return f"{name}: {alert['metric']} {value} (rule: {alert['op']} {alert['threshold']})"


def _rank(device: WatchedDevice) -> tuple[int, int, str]:
    states = [str(state) for state in TROUBLE_FIRST]
    return -bool(device.open_incidents), states.index(device.state), device.device_id


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)
