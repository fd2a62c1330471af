"""From evaluated rules to rows: incidents to open and resolve, rule states, notifications."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ingestor.alerts.evaluation import Finding, RuleState, Step, evaluate
from ingestor.alerts.rules import Candidate
from schema.alert import AlertState, Notification, alert
from schema.event import DeviceNo, Event
from schema.instants import epoch_us
from schema.rule import Rule


@dataclass(slots=True)
class NewIncident:
    """An incident opened by this batch; the database gives it its number only in `assign_numbers`."""

    pair: Candidate
    finding: Finding[Event]
    resolved_by: Event | None = None
    incident_id: int | None = None


# The incident of a finding: opened by this batch, the number of one opened before, or none.
IncidentRef = NewIncident | int | None


@dataclass(slots=True)
class Evaluation:
    """The outcome for one candidate; `incidents` holds one entry per finding."""

    pair: Candidate
    state: RuleState
    findings: list[Finding[Event]]
    incidents: list[IncidentRef] = field(default_factory=list)


@dataclass(slots=True)
class IncidentChanges:
    """Everything that the evaluations of a batch write. False if that is nothing."""

    evaluations: list[Evaluation] = field(default_factory=list)
    opened: list[NewIncident] = field(default_factory=list)
    resolved: list[tuple[DeviceNo, int, Event]] = field(default_factory=list)
    states: list[tuple[DeviceNo, str, RuleState, IncidentRef]] = field(default_factory=list)
    last: list[tuple[DeviceNo, str, RuleState]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.evaluations or self.states or self.last)

    def note_state(self, pair: Candidate, state: RuleState, incident: IncidentRef) -> None:
        """Note a state to save. A rule of `rate` usually changes nothing but its newest event."""
        key, before = (pair.device_no, pair.rule.rule_id), pair.state
        same = incident == before.incident_id and state.decides_like(before)
        if same and state.last_at == before.last_at and state.last_value == before.last_value:
            return
        if same and state.last_value is not None:
            self.last.append((*key, state))
        else:
            self.states.append((*key, state, incident))

    def assign_numbers(self, numbers: Sequence[int]) -> None:
        for opened, number in zip(self.opened, numbers, strict=True):
            opened.incident_id = number

    def opened_columns(self) -> list[list[Any]]:
        return _columns(
            (
                opened.incident_id,
                opened.pair.device_no,
                opened.pair.rule.rule_id,
                str(opened.pair.rule.severity),
                opened.finding.event.ts,
                opened.finding.event.event_id,
                float(opened.finding.value),
                None if opened.resolved_by is None else opened.resolved_by.ts,
                None if opened.resolved_by is None else opened.resolved_by.event_id,
                opened.pair.rule.metric,
                *opened.pair.rule.comparison,
            )
            for opened in self.opened
        )

    def resolved_columns(self) -> list[list[Any]]:
        return _columns(
            (device_no, incident_id, event.ts, event.event_id)
            for device_no, incident_id, event in self.resolved
        )

    def state_columns(self) -> list[list[Any]]:
        return _columns(
            (device_no, rule_id, state.pending_since, _number(incident), state.notified_at,
             state.decided_at, state.incident_notified, state.incident_told, state.last_at,
             state.last_value)
            for device_no, rule_id, state, incident in self.states
        )  # fmt: skip

    def last_columns(self) -> list[list[str]]:
        """The states in which only the newest event changed: its time in microseconds, and its value."""
        return _columns(
            (str(device_no), rule_id, str(epoch_us(state.last_at)), repr(state.last_value))
            for device_no, rule_id, state in self.last
            if state.last_at is not None
        )

    def notifications(self) -> list[Notification]:
        """The alerts, in the order of evaluation per candidate."""
        return [
            _alert(evaluation.pair.rule, finding, _number(incident))
            for evaluation in self.evaluations
            for finding, incident in zip(evaluation.findings, evaluation.incidents, strict=True)
            if finding.notified
        ]


def decide(pairs: Sequence[Candidate], newest: Sequence[datetime | None]) -> IncidentChanges:
    """Evaluate every candidate. `newest` is the newest event time already evaluated for each.

    New incidents get their numbers later, in one round trip.
    """
    changes = IncidentChanges()
    for pair, evaluated_until in zip(pairs, newest, strict=True):
        state, findings = evaluate(
            pair.rule, pair.state, pair.events, evaluated_until, pair.max_gap_s, pair.mute
        )
        evaluation = Evaluation(pair, state, findings)
        open_incident: IncidentRef = pair.state.incident_id
        for finding in findings:
            if finding.step is Step.FIRED:
                open_incident = NewIncident(pair, finding)
                changes.opened.append(open_incident)
            evaluation.incidents.append(open_incident)
            if finding.step is Step.RESOLVED:
                _resolve(changes, pair, open_incident, finding.event)
                open_incident = None
        if findings:
            changes.evaluations.append(evaluation)
        changes.note_state(pair, state, open_incident)
    return changes


def _resolve(
    changes: IncidentChanges, pair: Candidate, incident: IncidentRef, event: Event
) -> None:
    if isinstance(incident, NewIncident):
        incident.resolved_by = event
    elif incident is not None:
        changes.resolved.append((pair.device_no, incident, event))


def _alert(rule: Rule, finding: Finding[Event], incident_id: int | None) -> Notification:
    event = finding.event
    state = AlertState.RESOLVED if finding.step is Step.RESOLVED else AlertState.FIRING
    return alert(
        device_id=event.device_id,
        metrics=event.metrics,
        time=event.ts,
        incident_id=incident_id,
        rule_id=rule.rule_id,
        rule_name=rule.name,
        severity=rule.severity,
        state=state,
        metric=rule.metric,
        value=finding.value,
        op=rule.op,
        threshold=rule.threshold,
        late=finding.late,
        event_id=event.event_id,
        muted=finding.muted,
        channels=rule.channels if finding.told else (),
    )


def _number(incident: IncidentRef) -> int | None:
    return incident.incident_id if isinstance(incident, NewIncident) else incident


def _columns(rows: Any) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
