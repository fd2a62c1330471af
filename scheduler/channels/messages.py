"""What a channel says: one notification, or many as one, for people and for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from schema.alert import SILENT_RULE, AlertState
from schema.instants import rfc3339

UNITS_FOR_PEOPLE = {"Cel": "°C"}  # Profiles have the codes of UCUM.
LISTED_MAX = 10  # Alerts that a group lists for people.
LISTED_BYTES_MAX = 256 * 1024  # Alerts of a group for programs.


@dataclass(frozen=True, slots=True)
class Pending:
    """A notification that a channel still has to deliver.

    `alert` is the alert object, `opened_at` of its incident; None if the incident is gone.
    """

    id: int
    alert: Mapping[str, Any]
    body: bytes
    device_name: str | None
    unit: str | None
    opened_at: str | None
    age_s: float = 0


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """`id` is the same for every attempt, so that a receiver can recognize a repeat."""

    id: str
    title: str
    text: str
    body: bytes


def single(pending: Pending, base_url: str | None) -> ChannelMessage:
    body = {
        "type": f"alert.{pending.alert['state']}",
        "timestamp": pending.alert["timestamp"],
        "data": msgspec.Raw(pending.body),
    }
    lines = [
        _what(pending),
        f"{_span(pending)}, severity {pending.alert['severity']}.",
    ]
    if link := _link(pending, base_url):
        lines.append(link)
    return ChannelMessage(f"alert-{pending.id}", _title(pending), "\n".join(lines), _json(body))


def group(pending: Sequence[Pending], base_url: str | None) -> ChannelMessage:
    """More notifications than anybody would read one by one."""
    states = Counter(each.alert["state"] for each in pending)
    counts = ", ".join(f"{states[s]} {s}" for s in AlertState if states[s])
    lines = [
        f"{len(pending)} notifications arrived at nearly the same time, so this is one message:"
    ]
    lines += [f"- {_title(each)}" for each in pending[:LISTED_MAX]]
    if len(pending) > LISTED_MAX:
        lines.append(f"… and {len(pending) - LISTED_MAX} more.")
    if base_url:
        lines.append(f"{base_url}/")
    body = {
        "type": "alert.group",
        "timestamp": pending[-1].alert["timestamp"],
        "data": {
            "count": len(pending),
            "firing": states[AlertState.FIRING],
            "resolved": states[AlertState.RESOLVED],
            "alerts": _listed(pending),
        },
    }
    message_id = f"alerts-{pending[0].id}-{pending[-1].id}"
    return ChannelMessage(
        message_id, f"{len(pending)} alerts: {counts}", "\n".join(lines), _json(body)
    )


def trial(test_id: int, channel: str) -> ChannelMessage:
    text = f"This is a test of the channel {channel}: it works."
    now = rfc3339(datetime.now(UTC))
    body = {"type": "test", "timestamp": now, "data": {"channel": channel}}
    return ChannelMessage(f"test-{test_id}", "Voltwire test", text, _json(body))


def _listed(pending: Sequence[Pending]) -> list[msgspec.Raw]:
    listed, size = [], 0
    for each in pending:
        size += len(each.body)
        if size > LISTED_BYTES_MAX:
            break
        listed.append(msgspec.Raw(each.body))
    return listed


def _title(pending: Pending) -> str:
    device = pending.device_name or pending.alert["device_id"]
    rule = pending.alert.get("rule_name") or _condition(pending)
    ended = pending.alert["state"] == AlertState.RESOLVED
    return f"{'Resolved' if ended else pending.alert['severity'].capitalize()}: {device}: {rule}"


def _what(pending: Pending) -> str:
    """Which device, and what it measured."""
    alert = pending.alert
    device = alert["device_id"]
    if pending.device_name:
        device = f"{pending.device_name} ({device})"
    if alert["rule_id"] == SILENT_RULE:
        back = alert["state"] == AlertState.RESOLVED
        return f"{device} {'is back' if back else 'has fallen silent'}."
    value = alert.get("value")
    if value is None:
        return f"{device}: {_condition(pending)}"
    unit = f" {UNITS_FOR_PEOPLE.get(pending.unit, pending.unit)}" if pending.unit else ""
    return f"{device}: {alert['metric']} is {value}{unit} (rule: {_condition(pending)})."


def _span(pending: Pending) -> str:
    at = pending.alert["timestamp"]
    since = pending.opened_at or at
    if pending.alert["state"] == AlertState.RESOLVED:
        return f"From {since} to {at}"
    return f"Since {since}"


def _condition(pending: Pending) -> str:
    alert = pending.alert
    if alert["rule_id"] == SILENT_RULE:
        return "no sign of life"
    if alert.get("op") is None:
        return f"no new value of {alert['metric']}"
    return f"{alert['metric']} {alert['op']} {alert['threshold']}"


def _link(pending: Pending, base_url: str | None) -> str | None:
    incident = pending.alert.get("incident_id")
    if base_url is None or incident is None:
        return None
    return f"{base_url}/#/alerts/{incident}"


def _json(body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(body)
