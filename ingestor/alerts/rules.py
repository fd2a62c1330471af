"""Evaluate newly stored events against the rules in force. Pure: the caller writes the result.

For one (rule, device), events in order:
1. An event older than the newest already evaluated is late. It never causes a transition; under `every`
   its violation is notified.
2. Firing: the first event that clears resolves the incident; under `every` other violations are notified.
   While a cooldown has kept the incident from being notified, the first violation after it is notified under
   `change`, too; the resolution is notified only if the incident was.
3. Not firing: the first violating event of an unbroken run starts the run, and the first violating event
   at least `for_s` after that one fires.
All times are event times; docs/http-api.md gives the semantics in full.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ingestor.batch import Row, in_order_of_evaluation
from schema.alert import Notify, Rule
from schema.event import DeviceNo, Event

Pair = tuple[DeviceNo, str]  # A device and a rule_id.


@dataclass(frozen=True, slots=True)
class RuleState:
    """The stored state of a rule for a device; `incident_id` is set while firing.

    `incident_notified`: a notification of this incident was sent, so subscribers know that it fires.
    """

    pending_since: datetime | None = None
    incident_id: int | None = None
    notified_at: datetime | None = None
    decided_at: datetime | None = None
    incident_notified: bool = False

    @property
    def quiet(self) -> bool:
        return self.pending_since is None and self.incident_id is None


class Step(StrEnum):
    FIRED = "fired"
    VIOLATED = "violated"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Finding:
    """The effect of one event. `notified` is False while a cooldown suppresses the notification."""

    step: Step
    event: Event
    notified: bool
    late: bool = False


@dataclass(slots=True)
class Candidate:
    """A (rule, device) whose state may change, with its events of this batch and its state before."""

    rule: Rule
    device_no: DeviceNo
    state: RuleState
    events: list[Event] = field(default_factory=list)


class RuleBook:
    """The rules in force, by metric; a device with rules of its own has a mapping of its own."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._general: dict[str, list[Rule]] = defaultdict(list)
        self._of_device: dict[str, dict[str, list[Rule]]] = {}
        special = []
        for rule in rules:
            if rule.device_id is None:
                self._general[rule.metric].append(rule)
            else:
                special.append((rule.device_id, rule))
        for device_id, rule in special:
            by_metric = self._of_device.setdefault(device_id, {**self._general})
            by_metric[rule.metric] = [*by_metric.get(rule.metric, ()), rule]

    def __bool__(self) -> bool:
        return bool(self._general or self._of_device)

    def of(self, device_id: str) -> Mapping[str, Sequence[Rule]]:
        """The rules that may apply to the device, by metric; their tags are checked in `applies`."""
        return self._of_device.get(device_id, self._general)


def candidates(
    rows: Sequence[Row], rules: RuleBook, states: Mapping[Pair, RuleState]
) -> list[Candidate]:
    """The pairs whose state may change: an event violates the rule, or the state is not quiet."""
    active = {pair for pair, state in states.items() if not state.quiet}
    active.update(_violated(rows, rules))
    if not active:
        return []
    concerned = {device_no for device_no, _ in active}
    found: dict[Pair, Candidate] = {}
    for row in in_order_of_evaluation(row for row in rows if row.device_no in concerned):
        of_metric = rules.of(row.event.device_id)
        for metric in row.event.metrics:
            for rule in of_metric.get(metric, ()):
                pair = (row.device_no, rule.rule_id)
                if pair not in active or not applies(rule, row.event):
                    continue
                if pair not in found:
                    found[pair] = Candidate(rule, row.device_no, states.get(pair, RuleState()))
                found[pair].events.append(row.event)
    return list(found.values())


def _violated(rows: Iterable[Row], rules: RuleBook) -> Iterator[Pair]:
    """The violated pairs. Nearly every event violates nothing and costs no more than this loop."""
    for row in rows:
        event = row.event
        of_metric = rules.of(event.device_id)
        for metric, value in event.metrics.items():
            if metric in of_metric:
                for rule in of_metric[metric]:
                    if rule.violated_by(value) and applies(rule, event):
                        yield row.device_no, rule.rule_id


def applies(rule: Rule, event: Event) -> bool:
    if rule.device_id is not None and rule.device_id != event.device_id:
        return False
    return rule.tag is None or rule.tag in event.tags


def evaluate(
    rule: Rule, state: RuleState, events: Iterable[Event], newest: datetime | None
) -> tuple[RuleState, list[Finding]]:
    """Apply events to a state. `newest` is the newest event time already evaluated for it, if any.

    `incident_id` of the returned state is still the old one, because new incidents have no number yet.
    """
    run = _Run(rule, state, firing=state.incident_id is not None)
    for event in events:
        if newest is not None and event.ts < newest:
            run.late(event)
            continue
        newest = event.ts
        if run.firing:
            run.while_firing(event)
        else:
            run.while_not_firing(event)
    return run.state, run.findings


@dataclass(slots=True)
class _Run:
    rule: Rule
    state: RuleState
    firing: bool
    findings: list[Finding] = field(default_factory=list)

    def late(self, event: Event) -> None:
        every = self.rule.notify is Notify.EVERY and (self.firing or self.rule.for_s == 0)
        if every and self._violated(event):
            self._violation(Step.VIOLATED, event, late=True)

    def while_firing(self, event: Event) -> None:
        if self.rule.cleared_by(event.metrics[self.rule.metric]):
            self.firing = False
            self.findings.append(Finding(Step.RESOLVED, event, self.state.incident_notified))
            self.state = replace(self.state, decided_at=event.ts, incident_notified=False)
        elif self._violated(event) and (
            self.rule.notify is Notify.EVERY or not self.state.incident_notified
        ):
            self._violation(Step.VIOLATED, event)

    def while_not_firing(self, event: Event) -> None:
        since = self.state.pending_since
        if not self._violated(event):
            if since is not None:
                self.state = replace(self.state, pending_since=None, decided_at=event.ts)
        elif event.ts - (since or event.ts) >= timedelta(seconds=self.rule.for_s):
            self.firing = True
            self.state = replace(self.state, pending_since=None, decided_at=event.ts)
            self._violation(Step.FIRED, event)
        elif since is None:
            self.state = replace(self.state, pending_since=event.ts, decided_at=event.ts)

    def _violated(self, event: Event) -> bool:
        return self.rule.violated_by(event.metrics[self.rule.metric])

    def _violation(self, step: Step, event: Event, *, late: bool = False) -> None:
        """Notify, except within the cooldown, which starts with the last notification."""
        notified, last = True, self.state.notified_at
        if self.rule.cooldown_s > 0:
            notified = last is None or event.ts >= last + timedelta(seconds=self.rule.cooldown_s)
            if notified:
                self.state = replace(self.state, notified_at=event.ts)
        if notified and self.firing:
            self.state = replace(self.state, incident_notified=True)
        self.findings.append(Finding(step, event, notified, late))
