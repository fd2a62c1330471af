"""Steps 3 and 6 of the writing transaction: what rules know before the new events, and what they write after.

Without a rule that the events concern nothing is read or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ingestor.alerts.evaluation import RuleState
from ingestor.alerts.incidents import IncidentChanges, decide
from ingestor.alerts.rules import Candidate, Pair, candidates, received
from ingestor.alerts.silences import Silence, mute_of
from ingestor.batch import Row
from ingestor.store.presence_writes import SEPARATOR
from ingestor.store.registry import Registry, StaleRegistryError
from schema.alert import AlertState, Notification, alert
from schema.database import Connection
from schema.event import DeviceNo, Event
from schema.locks import LOCKS
from schema.presence import TIMES
from schema.queries import load_queries
from schema.rule import Rule, max_gap_s, receipt_step_s

queries = load_queries("ingestor.store", constants=LOCKS | TIMES)


@dataclass(slots=True)
class AlertFacts:
    """What is evaluated: candidates, the newest event evaluated for each, and arrivals for `no_data`."""

    pairs: Sequence[Candidate] = ()
    newest: Sequence[datetime | None] = ()
    received: Mapping[Pair, tuple[Rule, Event]] = field(default_factory=dict)


async def read_alert_facts(
    connection: Connection, registry: Registry, new_rows: Sequence[Row], now: datetime
) -> AlertFacts:
    """Runs before the events are copied, so that "newest so far" leaves this batch out."""
    rules = registry.rules
    if not rules or not new_rows:
        return AlertFacts()
    devices = sorted({row.device_no for row in new_rows})
    stored = {
        (DeviceNo(row["device_no"]), str(row["rule_id"])): row
        for row in await connection.fetch(queries.read_alert_states, devices)
    }
    pairs = candidates(
        new_rows, rules, {pair: _state_from_row(row) for pair, row in stored.items()}
    )
    newest = await _complete(connection, registry, pairs, now)
    arrived = {
        pair: (rules.by_id[pair[1]], event)
        for pair, event in received(new_rows, rules).items()
        if not _is_fresh(stored.get(pair), rules.by_id[pair[1]], now)
    }
    return AlertFacts(pairs, newest, arrived)


async def write_alerts(connection: Connection, facts: AlertFacts) -> list[Notification]:
    """Incidents and states; returns the alerts for subscribers and channels."""
    notifications = await _write_incidents(connection, decide(facts.pairs, facts.newest))
    if facts.received:
        notifications += await _save_receipts(connection, facts.received)
    return notifications


async def _complete(
    connection: Connection, registry: Registry, pairs: Sequence[Candidate], now: datetime
) -> list[datetime | None]:
    """Give each candidate its gap and its mute; return the newest event time that it has evaluated."""
    for pair in pairs:
        device = registry.devices.get(pair.events[0].device_id)
        if device is None:  # The cache was emptied since the batch was checked.
            raise StaleRegistryError
        pair.max_gap_s = max_gap_s(pair.rule.max_gap_s, device.interval_s)
    silences = [each for each in registry.silences if each.starts_at <= now < each.ends_at]
    if silences and pairs:
        await _mute(connection, pairs, silences)
    return await _newest_evaluated(connection, pairs)


async def _mute(
    connection: Connection, pairs: Sequence[Candidate], silences: Sequence[Silence]
) -> None:
    rows = await connection.fetch(
        queries.read_device_tags, sorted({pair.device_no for pair in pairs})
    )
    tags = {row["device_no"]: row["tags"] for row in rows}
    for pair in pairs:
        device_id, rule_id = pair.events[0].device_id, pair.rule.rule_id
        found = [each for each in silences if each.may_concern(device_id, rule_id)]
        pair.mute = mute_of(found, tags[pair.device_no])


async def _newest_evaluated(
    connection: Connection, pairs: Sequence[Candidate]
) -> list[datetime | None]:
    """The newest event time that each candidate has evaluated; a rule of `rate` keeps it itself."""
    asked = [pair for pair in pairs if not pair.rule.keeps_last]
    if not asked:
        return [None] * len(pairs)
    oldest = min(event.ts for pair in asked for event in pair.events)
    rows = await connection.fetch(
        queries.newest_evaluated,
        [pair.device_no for pair in asked],
        [pair.rule.metric for pair in asked],
        [pair.rule.tag for pair in asked],
        [pair.rule.in_force_from for pair in asked],
        list(range(len(asked))),
        oldest,
    )
    newest = iter(rows)
    return [None if pair.rule.keeps_last else next(newest)["newest"] for pair in pairs]


async def _write_incidents(connection: Connection, changes: IncidentChanges) -> list[Notification]:
    if not changes:
        return []
    if changes.resolved:
        await connection.execute(queries.resolve_incidents, *changes.resolved_columns())
    if changes.opened:
        numbers = await connection.fetch(queries.next_incident_numbers, len(changes.opened))
        changes.assign_numbers([row[0] for row in numbers])
        await connection.execute(queries.open_incidents, *changes.opened_columns())
    if changes.states:
        await connection.execute(queries.save_alert_states, *changes.state_columns())
    if changes.last:
        await connection.execute(queries.save_last, *map(SEPARATOR.join, changes.last_columns()))
    return changes.notifications()


async def _save_receipts(
    connection: Connection, arrived: Mapping[Pair, tuple[Rule, Event]]
) -> list[Notification]:
    """`no_data`: renew the last receipt of each pair, and resolve its incident."""
    pairs = sorted(arrived)
    rows = await connection.fetch(
        queries.save_receipts,
        [device_no for device_no, _ in pairs],
        [rule_id for _, rule_id in pairs],
        [arrived[pair][0].for_s for pair in pairs],
    )
    ended = [row for row in rows if row["incident_id"] is not None]
    if not ended:
        return []
    events = [arrived[row["device_no"], row["rule_id"]][1] for row in ended]
    muted = await connection.fetch(
        queries.muted_now,
        [row["device_no"] for row in ended],
        [row["rule_id"] for row in ended],
        [msgspec.json.encode(event.tags).decode() for event in events],
    )
    await connection.execute(
        queries.resolve_incidents,
        [row["device_no"] for row in ended],
        [row["incident_id"] for row in ended],
        [row["received_at"] for row in ended],
        [event.event_id for event in events],
    )
    return [
        _data_again(
            arrived[row["device_no"], row["rule_id"]][0], row, event, muted=is_muted["muted"]
        )
        for row, event, is_muted in zip(ended, events, muted, strict=True)
        if row["incident_notified"]
    ]


def _data_again(rule: Rule, row: Any, event: Event, *, muted: bool) -> Notification:
    """Its time is the time of receipt, like that of the incident."""
    return alert(
        device_id=event.device_id,
        metrics=event.metrics,
        time=row["received_at"],
        incident_id=row["incident_id"],
        rule_id=rule.rule_id,
        rule_name=rule.name,
        severity=rule.severity,
        state=AlertState.RESOLVED,
        metric=rule.metric,
        value=event.metrics[rule.metric],
        event_id=event.event_id,
        muted=muted,
        channels=rule.channels if row["incident_told"] else (),
    )


def _state_from_row(row: Any) -> RuleState:
    return RuleState(
        row["pending_since"],
        row["incident_id"],
        row["notified_at"],
        row["decided_at"],
        row["incident_notified"],
        row["incident_told"],
        row["last_at"],
        row["last_value"],
    )


def _is_fresh(row: Any, rule: Rule, now: datetime) -> bool:
    """Whether the stored receipt is so new that it need not be renewed; the sweep allows for the step."""
    if row is None or row["received_at"] is None or row["incident_id"] is not None:
        return False
    return bool(now - row["received_at"] < timedelta(seconds=receipt_step_s(rule.for_s)))
