"""The presence of a device: its states and the object that subscribers get."""

from datetime import datetime
from enum import StrEnum

from schema.alert import SILENT_RULE, AlertState, Notification, Severity, alert
from schema.instants import rfc3339


class PresenceState(StrEnum):
    NEVER_SEEN = "never_seen"
    ONLINE = "online"
    ASLEEP = "asleep"
    LATE = "late"
    OFFLINE = "offline"


def presence_changed(
    device_id: str,
    state: str,
    since: datetime,
    reason: str,
    last_seen: datetime | None,
) -> Notification:
    return Notification(
        kind="presence",
        device_id=device_id,
        rule_id=None,
        state=state,
        late=False,
        body={
            "id": None,
            "device_id": device_id,
            "state": state,
            "since": rfc3339(since),
            "reason": reason,
            "last_seen": None if last_seen is None else rfc3339(last_seen),
        },
    )


def silence_alert(
    device_id: str, incident_id: int, at: datetime, state: AlertState
) -> Notification:
    """The built-in rule: `offline` opens its incident, life resolves it. Times are times of receipt."""
    return alert(
        device_id=device_id,
        metrics={},
        time=at,
        incident_id=incident_id,
        rule_id=SILENT_RULE,
        severity=Severity.WARNING,
        state=state,
    )
