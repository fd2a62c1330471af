"""Alerts: severities, states, the alert object, and the notification that carries it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from schema.event import json_form
from schema.instants import rfc3339

SILENT_RULE = "silent"  # The built-in rule: its incidents are devices that fell silent.


class Severity(StrEnum):
    WARNING = "warning"
    INFO = "info"
    CRITICAL = "critical"


class AlertState(StrEnum):
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Notification:
    """One row of the outbox: an alert or a change of presence, sent to subscribers after the commit.

    `channels` are those of the rule, if an incident began or ended for them.
    """

    kind: str  # "alert" or "presence"
    device_id: str
    rule_id: str | None
    state: str
    late: bool
    body: Mapping[str, Any]
    channels: Sequence[str] = ()


def alert(
    *,
    device_id: str,
    metrics: Mapping[str, float],
    time: datetime,
    incident_id: int | None,
    rule_id: str,
    rule_name: str | None = None,
    severity: str,
    state: AlertState,
    metric: str | None = None,
    value: float | None = None,
    op: str | None = None,
    threshold: float | None = None,
    late: bool = False,
    event_id: str | None = None,
    muted: bool = False,
    channels: Sequence[str] = (),
    **more: Any,
) -> Notification:
    """The alert object. The services that Voltwire replaces have its first fields; the feed sets `id`.

    `muted`: a silence keeps it from channels. `more` are fields of an acknowledgement.
    """
    return Notification(
        kind="alert",
        device_id=device_id,
        rule_id=rule_id,
        state=state,
        late=late,
        body={
            "device_id": device_id,
            "metrics": {name: json_form(reading) for name, reading in metrics.items()},
            "time": str(time.astimezone(UTC).replace(tzinfo=None)),
            "timestamp": rfc3339(time),
            "id": None,
            "incident_id": incident_id,
            "rule_id": rule_id,
            "metric": metric,
            "value": None if value is None else json_form(value),
            "op": op,
            "threshold": None if threshold is None else json_form(threshold),
            "severity": severity,
            "state": state,
            "late": late,
            "event_id": event_id,
            "rule_name": rule_name,
            "muted": muted,
            **more,
        },
        channels=channels,
    )
