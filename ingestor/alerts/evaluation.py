"""Evaluate a rule over the events of one device. Pure: the caller writes the result.

For one (rule, device), events in order:
1. An event older than the newest already evaluated is late. It never causes a transition; under `every`
   its violation is notified. It has no rate.
2. A gap longer than `max_gap_s` ends an unbroken run, and leaves a rule of `rate` without a result. So does
   the absence of an earlier event, and an equal time. Without a result nothing else happens.
3. Firing: the first event that clears resolves the incident; under `every` other violations are notified.
   What a cooldown kept from subscribers, or a silence from channels, is owed: the first violation afterwards
   is notified under `change`, too. Subscribers and channels get the resolution of what they got.
4. Not firing: the first violating event of an unbroken run starts the run, and the first violating event
   at least `for_s` after that one fires.
All times are event times; docs/alerts.md gives the semantics in full. Back-tests use this file, too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from sys import float_info
from typing import Generic, TypeVar

from schema.event import Event
from schema.instants import epoch_us, from_epoch_us
from schema.rule import Notify, Rule, resolve_limit

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US

# What a reading comes from: the event, or its id in a back-test.
Source = TypeVar("Source")
# (event time in microseconds, value of the rule's metric, source)
Reading = tuple[int, float, Source]


@dataclass(frozen=True, slots=True)
class RuleState:
    """The stored state of a rule for a device; `incident_id` is set while firing.

    `incident_notified`: subscribers know that the incident fires; `incident_told`: channels know.
    `last_at` and `last_value` are of the newest evaluated event; they are kept for `rate`, and while a gap
    may end a run.
    """

    pending_since: datetime | None = None
    incident_id: int | None = None
    notified_at: datetime | None = None
    decided_at: datetime | None = None
    incident_notified: bool = False
    incident_told: bool = False
    last_at: datetime | None = None
    last_value: float | None = None

    @property
    def quiet(self) -> bool:
        return self.pending_since is None and self.incident_id is None

    def decides_like(self, other: "RuleState") -> bool:
        """Whether all but the number of the incident and the newest event is the same."""
        return (
            self.pending_since == other.pending_since
            and self.notified_at == other.notified_at
            and self.decided_at == other.decided_at
            and self.incident_notified == other.incident_notified
            and self.incident_told == other.incident_told
        )


class Step(StrEnum):
    FIRED = "fired"
    VIOLATED = "violated"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Finding(Generic[Source]):
    """The effect of one event.

    `notified` is False while a cooldown suppresses the notification; `muted`: a silence keeps it from
    channels; `told`: channels get it.
    """

    step: Step
    event: Source
    ts_us: int
    value: float
    notified: bool
    late: bool = False
    muted: bool = False
    told: bool = False


def evaluate(
    rule: Rule,
    state: RuleState,
    events: Iterable[Event],
    newest: datetime | None,
    max_gap_s: float | None = None,
    is_muted: Callable[[Event], bool] | None = None,
) -> tuple[RuleState, list[Finding[Event]]]:
    """Apply events to a state. `newest` is the newest event time already evaluated for it, if any.

    `incident_id` of the returned state is still the old one, because new incidents have no number yet.
    """
    evaluator: Evaluator[Event] = Evaluator(rule, max_gap_s, is_muted)
    evaluator.resume(state, newest)
    metric = rule.metric
    evaluator.read((event.ts_us, event.metrics[metric], event) for event in events)
    return evaluator.state(state.incident_id), evaluator.findings


@dataclass(slots=True)
class Evaluator(Generic[Source]):
    """One rule and device over any number of readings. Instants are microseconds since the Unix epoch."""

    rule: Rule
    max_gap_s: float | None = None
    is_muted: Callable[[Source], bool] | None = None
    firing: bool = False
    findings: list[Finding[Source]] = field(default_factory=list)
    _pending_since: int | None = None
    _notified_at: int | None = None
    _decided_at: int | None = None
    _notified: bool = False
    _told: bool = False
    _last_at: int | None = None
    _last_value: float = 0.0
    _newest: int | None = None

    def resume(self, state: RuleState, newest: datetime | None) -> None:
        """Continue from a stored state and the newest event time that was evaluated."""
        self.firing = state.incident_id is not None
        self._pending_since = _us(state.pending_since)
        self._notified_at, self._decided_at = _us(state.notified_at), _us(state.decided_at)
        self._notified, self._told = state.incident_notified, state.incident_told
        self._last_at, self._last_value = _us(state.last_at), state.last_value or 0.0
        known = (_us(newest), self._decided_at, self._last_at)
        self._newest = max((at for at in known if at is not None), default=None)

    def state(self, incident_id: int | None) -> RuleState:
        keeps = self.rule.keeps_last
        kept = keeps or (self._pending_since is not None and self.max_gap_s is not None)
        last_at = self._last_at if kept else None
        return RuleState(
            pending_since=_instant(self._pending_since),
            incident_id=incident_id,
            notified_at=_instant(self._notified_at),
            decided_at=_instant(self._decided_at),
            incident_notified=self._notified,
            incident_told=self._told,
            last_at=_instant(last_at),
            last_value=self._last_value if keeps and last_at is not None else None,
        )

    def read(self, readings: Iterable[Reading[Source]]) -> None:
        """Evaluate readings in order. The loop is the same for a batch and for a year."""
        compare, threshold = _comparison(self.rule)
        of_rate = self.rule.keeps_last
        gap_us = None if self.max_gap_s is None else _span_us(self.max_gap_s)
        for ts, value, source in readings:
            if self._newest is not None and ts < self._newest:
                self._late(ts, value, source)
                continue
            last, before = self._last_at, self._last_value
            self._newest = self._last_at = ts
            self._last_value = value
            gapped = gap_us is not None and last is not None and ts - last > gap_us
            if gapped and self._pending_since is not None:
                self._pending_since, self._decided_at = None, ts
            if of_rate:
                if last is None or gapped or ts == last:
                    continue
                value = per_minute(float(value) - before, ts - last)  # noqa: PLW2901  # What is compared.
            if self.firing:
                self._while_firing(ts, value, source)
            elif compare(value, threshold):
                self._violation_while_not_firing(ts, value, source)
            elif self._pending_since is not None:
                self._pending_since, self._decided_at = None, ts

    def _late(self, ts: int, value: float, source: Source) -> None:
        compare, threshold = _comparison(self.rule)
        every = self.rule.notify is Notify.EVERY and (self.firing or self.rule.for_s == 0)
        if every and not self.rule.keeps_last and compare(value, threshold):
            self._violation(Step.VIOLATED, ts, value, source, late=True)

    def _while_firing(self, ts: int, value: float, source: Source) -> None:
        compare, threshold = _comparison(self.rule)
        if not compare(value, _clear_limit(self.rule)):
            self.firing = False
            muted = self.is_muted is not None and self.is_muted(source)
            self.findings.append(
                Finding(
                    Step.RESOLVED, source, ts, value, self._notified, muted=muted, told=self._told
                )
            )
            self._decided_at, self._notified, self._told = ts, False, False
        elif compare(value, threshold):
            self._violation(Step.VIOLATED, ts, value, source)

    def _violation_while_not_firing(self, ts: int, value: float, source: Source) -> None:
        since = self._pending_since
        if ts - (ts if since is None else since) >= _span_us(self.rule.for_s):
            self.firing = True
            self._pending_since, self._decided_at = None, ts
            self._violation(Step.FIRED, ts, value, source)
        elif since is None:
            self._pending_since = self._decided_at = ts

    def _violation(
        self, step: Step, ts: int, value: float, source: Source, *, late: bool = False
    ) -> None:
        """Notify, except within the cooldown, which starts with the last notification that was not muted."""
        muted = self.is_muted is not None and self.is_muted(source)
        owed = self.firing and not (self._notified and (self._told or muted))
        if step is Step.VIOLATED and self.rule.notify is Notify.CHANGE and not owed:
            return
        cooldown_us = _span_us(self.rule.cooldown_s)
        notified = cooldown_us == 0 or self._notified_at is None
        notified = notified or ts >= (self._notified_at or 0) + cooldown_us
        told = notified and self.firing and not muted and not self._told
        if notified and self.firing:
            self._notified, self._told = True, self._told or not muted
        if notified and cooldown_us and not muted:
            self._notified_at = ts
        self.findings.append(Finding(step, source, ts, value, notified, late, muted, told))


def per_minute(change: float, elapsed_us: int) -> float:
    """The change per minute, within the range of a double."""
    rate = change / (elapsed_us / MINUTE_US)
    return max(-float_info.max, min(float_info.max, rate))


def _comparison(rule: Rule) -> tuple[Callable[[float, float], bool], float]:
    op, threshold = rule.comparison
    return op.compare, threshold


def _clear_limit(rule: Rule) -> float:
    _, threshold = rule.comparison
    limit = resolve_limit(rule.clear_threshold, threshold)
    return threshold if limit is None else limit


def _span_us(seconds: float) -> int:
    return round(seconds * SECOND_US)


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else epoch_us(instant)


def _instant(us: int | None) -> datetime | None:
    return None if us is None else from_epoch_us(us)
