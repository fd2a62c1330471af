"""Rules by docs/alerts.md#rules: the evaluator against a second implementation of the same text."""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from sys import float_info
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as altered
from pydantic import ValidationError

from ingestor.alerts.evaluation import Finding, RuleState, Step, evaluate
from ingestor.alerts.incidents import decide
from ingestor.alerts.rules import RuleBook, applies, candidates
from ingestor.alerts.silences import Mute
from ingestor.batch import Message, Row, in_order_of_evaluation
from ingestor.decode.acceptance import Origin
from schema.alert import Severity
from schema.event import DeviceNo, Door, Event
from schema.instants import epoch_us
from schema.rule import Condition, Notify, Op, Rule, RuleBody

properties = settings(max_examples=40, deadline=None, database=None)

START = datetime(2026, 2, 1, tzinfo=UTC)
DEVICE = DeviceNo(7)
HOT = Rule(
    rule_id="r1",
    device_id=None,
    tag=None,
    metric="temp",
    op=Op.GT,
    threshold=50,
    severity=Severity.WARNING,
    for_s=0,
    clear_threshold=None,
    cooldown_s=0,
    notify=Notify.EVERY,
    in_force_from=START - timedelta(days=1),
)
NAMES = {Step.FIRED: "fired", Step.VIOLATED: "violated", Step.RESOLVED: "resolved"}

# (what happened, event_id, incident, notified, late)
Outcome = tuple[str, str, int | None, bool, bool]


def second(number: float) -> datetime:
    return START + timedelta(seconds=number)


def reading(
    at: float, value: float | None, event_id: str | None = None, tags: Sequence[str] = ()
) -> Event:
    """An event of second `at`; without a value it lacks the metric of the rule."""
    metrics = {"other": 1.0} if value is None else {"temp": value}
    return Event(
        "deviceA",
        event_id or f"e{at:g}",
        epoch_us(second(at)),
        metrics,
        list(tags),
        None,
        epoch_us(START),
    )


def readings(*pairs: tuple[float, float | None]) -> list[Event]:
    return [reading(at, value) for at, value in pairs]


def in_words(findings: Iterable[Finding[Event]]) -> list[str]:
    """The findings as words: `fired e1`, in brackets without a notification."""
    return [
        f"{finding.step} {finding.event.event_id}"
        if finding.notified
        else f"({finding.step} {finding.event.event_id})"
        for finding in findings
    ]


def story(rule: Rule, *pairs: tuple[float, float | None]) -> list[str]:
    """What a rule finds in events that arrive one by one."""
    return [
        (f"{what} {event_id}" if notified else f"({what} {event_id})") + (" late" if late else "")
        for what, event_id, _, notified, late in live(rule, readings(*pairs))
    ]


@dataclass
class Stream:
    """One rule and one device over many batches, with what the store keeps between them."""

    rule: Rule
    state: RuleState = field(default_factory=RuleState)
    evaluated: list[datetime] = field(default_factory=list)
    incidents: int = 0
    open_now: set[int] = field(default_factory=set)
    log: list[Outcome] = field(default_factory=list)

    def batch(self, messages: Iterable[Sequence[Event]]) -> None:
        rows = in_order_of_evaluation(
            Row(DEVICE, event, MESSAGE, place, order)
            for order, events in enumerate(messages)
            for place, event in enumerate(events)
        )
        pairs = candidates(rows, RuleBook([self.rule]), {(DEVICE, self.rule.rule_id): self.state})
        for pair in pairs:
            pair.max_gap_s, pair.mute = self.rule.max_gap_s, MUTE
        changes = decide(pairs, [self._newest(pair.events) for pair in pairs])
        numbers = range(self.incidents + 1, self.incidents + 1 + len(changes.opened))
        changes.assign_numbers(numbers)
        self.incidents += len(changes.opened)
        for evaluation in changes.evaluations:
            for finding, incident in zip(evaluation.findings, evaluation.incidents, strict=True):
                number: Any = incident  # A number, or an incident that has just got one.
                self._note(finding, getattr(number, "incident_id", number))
        self.open_now -= {row[1] for row in zip(*changes.resolved_columns(), strict=True)}
        for row in zip(*changes.opened_columns(), strict=True):
            if row[7] is None:  # Not resolved within the batch.
                self.open_now.add(row[0])
        assert len(self.open_now) <= 1, "two open incidents of one rule and device"
        if changes.states:
            (_, _, *kept), *others = zip(*changes.state_columns(), strict=True)
            assert not others
            self.state = RuleState(*kept)
        for *_, kept_state in changes.last:
            self.state = replace(
                self.state, last_at=kept_state.last_at, last_value=kept_state.last_value
            )
        assert self.open_now == {self.state.incident_id} - {None}
        self.evaluated += [row.event.ts for row in rows if relevant(self.rule, row.event)]

    def _newest(self, events: Sequence[Event]) -> datetime | None:
        """As the store queries: stored events newer than the oldest candidate, and the last decision."""
        if self.rule.keeps_last:
            return None
        oldest = min(event.ts for event in events)
        known = [ts for ts in self.evaluated if ts > oldest]
        if self.state.decided_at is not None:
            known.append(self.state.decided_at)
        return max(known, default=None)

    def _note(self, finding: Finding[Event], incident: int | None) -> None:
        what = NAMES[finding.step]
        self.log.append((what, finding.event.event_id, incident, finding.notified, finding.late))


MUTE = Mute(tags=frozenset({"muted"}))
MESSAGE = Message(Door.MQTT, b"", Origin(epoch_us(START), "deviceA"), lambda _: None)


def live(rule: Rule, events: Iterable[Event]) -> list[Outcome]:
    """Every event in a message and a batch of its own."""
    stream = Stream(rule)
    for event in events:
        stream.batch([[event]])
    return stream.log


def relevant(rule: Rule, event: Event) -> bool:
    return rule.metric in event.metrics and (rule.tag is None or rule.tag in event.tags)


def by_definition(rule: Rule, events: Iterable[Event]) -> list[Outcome]:
    """Evaluate as the documents define it: each event looks back over all that came before it."""
    reference = ReferenceEvaluator(rule)
    for event in events:
        if relevant(rule, event):
            reference.read(event)
    return reference.log


COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass
class ReferenceEvaluator:
    rule: Rule
    past: list[Event] = field(default_factory=list)
    on_time: list[Event] = field(default_factory=list)
    sent: list[datetime] = field(default_factory=list)
    log: list[Outcome] = field(default_factory=list)

    def read(self, event: Event) -> None:
        late = any(before.ts > event.ts for before in self.past)
        self.past.append(event)
        if not late:
            self.on_time.append(event)
        firing = self.firing()
        what = self.what_of_late(event) if late else self.what_of(event)
        if what is None:
            return
        notified = self.known() if what == "resolved" else not self.cooling(event)
        opened = sum(outcome[0] == "fired" for outcome in self.log) + (what == "fired")
        incident = opened if firing or what == "fired" else None
        self.log.append((what, event.event_id, incident, notified, late))
        if notified and what != "resolved":
            self.sent.append(event.ts)

    def what_of(self, event: Event) -> str | None:
        result = self.result(len(self.on_time) - 1)
        if result is None:
            return None
        if self.firing():
            clear = self.rule.clear_threshold
            if not self.compares(result, self.rule.threshold if clear is None else clear):
                return "resolved"
            wanted = self.rule.notify is Notify.EVERY or not self.known()
            return "violated" if wanted and self.violates(result) else None
        began = self.begin_of_run()
        if began is not None and event.ts - began >= timedelta(seconds=self.rule.for_s):
            return "fired"
        return None

    def result(self, place: int) -> float | None:
        """What is compared: the value, or its change per minute to the event before."""
        event = self.on_time[place]
        if self.rule.condition is Condition.THRESHOLD:
            return event.metrics["temp"]
        if place == 0 or self.gap_before(place):
            return None
        before = self.on_time[place - 1]
        minutes = (event.ts - before.ts) / timedelta(minutes=1)
        return (event.metrics["temp"] - before.metrics["temp"]) / minutes if minutes else None

    def gap_before(self, place: int) -> bool:
        longest, events = self.rule.max_gap_s, self.on_time
        span = events[place].ts - events[place - 1].ts
        return place > 0 and longest is not None and span > timedelta(seconds=longest)

    def begin_of_run(self) -> datetime | None:
        """The first violating event of the unbroken run that ends now."""
        began = None
        for place in reversed(range(len(self.on_time))):
            result = self.result(place)
            if result is not None:
                if not self.violates(result):
                    break
                began = self.on_time[place].ts
            if self.gap_before(place):
                break
        return began

    def what_of_late(self, event: Event) -> str | None:
        """Without `for_s` each violation counts alone, so a late one is notified without an incident."""
        of_an_incident = self.firing() or self.rule.for_s == 0
        every = self.rule.notify is Notify.EVERY
        if self.rule.condition is Condition.RATE:
            return None
        violates = self.violates(event.metrics["temp"])
        return "violated" if every and of_an_incident and violates else None

    def firing(self) -> bool:
        transitions = [outcome[0] for outcome in self.log if outcome[0] != "violated"]
        return transitions[-1:] == ["fired"]

    def known(self) -> bool:
        """Whether anything of the incident that fires was notified."""
        number = sum(outcome[0] == "fired" for outcome in self.log)
        return any(outcome[2] == number and outcome[3] for outcome in self.log)

    def violates(self, result: float) -> bool:
        return self.compares(result, self.rule.threshold)

    def compares(self, result: float, limit: float | None) -> bool:
        assert self.rule.op is not None
        assert limit is not None
        return COMPARE[self.rule.op.value](result, limit)

    def cooling(self, event: Event) -> bool:
        span = timedelta(seconds=self.rule.cooldown_s)
        return bool(span) and any(event.ts < at + span for at in self.sent)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    op = draw(st.sampled_from(Op))
    clear = None
    if op in {Op.GT, Op.GE}:
        clear = draw(st.sampled_from([None, 3.0, 2.0]))
    elif op in {Op.LT, Op.LE}:
        clear = draw(st.sampled_from([None, 3.0, 4.0]))
    return replace(
        HOT,
        op=op,
        threshold=3.0,
        clear_threshold=clear,
        condition=draw(st.sampled_from([Condition.THRESHOLD, Condition.THRESHOLD, Condition.RATE])),
        max_gap_s=draw(st.sampled_from([None, None, 1.0, 2.5, 4.0])),
        for_s=draw(st.sampled_from([0.0, 0.0, 1.0, 2.5, 6.0])),
        cooldown_s=draw(st.sampled_from([0.0, 0.0, 2.0, 5.0])),
        notify=draw(st.sampled_from(Notify)),
        tag=draw(st.sampled_from([None, None, "t"])),
    )


VALUES = st.sampled_from([1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 5.0, None])
MOMENTS = st.lists(
    st.tuples(st.integers(0, 20), VALUES, st.sampled_from([("t",), ("t",), ()])), max_size=24
)


def as_events(moments: Sequence[tuple[int, float | None, tuple[str, ...]]]) -> list[Event]:
    return [
        reading(at, value, f"e{number:02d}", tags)
        for number, (at, value, tags) in enumerate(moments)
    ]


ARRIVALS = MOMENTS.map(as_events)
IN_ORDER = MOMENTS.map(lambda moments: as_events(sorted(moments, key=lambda moment: moment[0])))


# -- The semantics as a whole. --


@properties
@given(rules(), ARRIVALS)
def test_live_delivery_in_any_order_agrees_with_the_reference(
    rule: Rule, events: list[Event]
) -> None:
    assert live(rule, events) == by_definition(rule, events)


@properties
@given(rules(), IN_ORDER)
def test_one_evaluation_of_all_events_agrees_with_the_reference(
    rule: Rule, events: list[Event]
) -> None:
    _, findings = evaluate(
        rule, RuleState(), [e for e in events if relevant(rule, e)], None, rule.max_gap_s
    )
    found = [(str(f.step), f.event.event_id, f.notified, f.late) for f in findings]
    expected = by_definition(rule, events)
    assert found == [
        (what, event_id, notified, late) for what, event_id, _, notified, late in expected
    ]


@properties
@given(rules(), ARRIVALS, st.lists(st.integers(1, 6), max_size=24))
def test_how_the_stream_is_cut_into_batches_is_not_seen(
    rule: Rule, events: list[Event], sizes: list[int]
) -> None:
    stream, rest = Stream(rule), events
    for size in [*sizes, len(events)]:
        stream.batch([[event] for event in rest[:size]])
        rest = rest[size:]
    assert not rest
    assert stream.log == live(rule, events)


@properties
@given(rules(), IN_ORDER, st.lists(st.integers(1, 8), max_size=24), st.randoms())
def test_a_shuffled_array_gives_the_incidents_of_live_delivery(
    rule: Rule, events: list[Event], sizes: list[int], random: Any
) -> None:
    stream, rest = Stream(rule), events
    for size in [*sizes, len(events)]:
        array = rest[:size]
        random.shuffle(array)
        stream.batch([array])
        rest = rest[size:]
    assert stream.log == live(rule, events)


@properties
@given(rules(), ARRIVALS)
def test_fired_and_resolved_alternate_and_each_pair_shares_its_incident(
    rule: Rule, events: list[Event]
) -> None:
    transitions = [
        (outcome[0], outcome[2]) for outcome in live(rule, events) if outcome[0] != "violated"
    ]
    expected = [
        (what, number // 2 + 1) for number, what in enumerate(["fired", "resolved"] * len(events))
    ]
    assert transitions == expected[: len(transitions)]


@properties
@given(rules(), IN_ORDER, st.integers(-60, 19), st.sampled_from([1.0, 3.0, 5.0]))
def test_a_late_event_never_changes_an_incident(
    rule: Rule, events: list[Event], at: int, value: float
) -> None:
    newest = max((event.ts for event in events if relevant(rule, event)), default=START)
    straggler = reading(at, value, "late", ["t"])
    straggler.ts_us = epoch_us(min(second(at), newest)) - 1
    stream = Stream(rule)
    for event in events:
        stream.batch([[event]])
    before, open_before = stream.state, set(stream.open_now)
    if any(relevant(rule, event) for event in events):
        stream.batch([[straggler]])
        assert stream.open_now == open_before
        assert replace(stream.state, notified_at=None) == replace(before, notified_at=None)
        assert all(
            outcome[0] == "violated" and outcome[4]
            for outcome in stream.log
            if outcome[1] == "late"
        )


@properties
@given(rules(), ARRIVALS)
def test_under_change_only_transitions_are_found(rule: Rule, events: list[Event]) -> None:
    every = live(replace(rule, notify=Notify.EVERY, cooldown_s=0), events)
    change = live(replace(rule, notify=Notify.CHANGE, cooldown_s=0), events)
    assert change == [outcome for outcome in every if outcome[0] != "violated"]


@properties
@given(rules(), ARRIVALS)
def test_a_cooldown_silences_violations_but_moves_no_incident(
    rule: Rule, events: list[Event]
) -> None:
    with_cooldown, without = live(rule, events), live(replace(rule, cooldown_s=0), events)
    assert transitions(with_cooldown) == transitions(without)
    assert all(outcome[3] for outcome in without)
    times = [
        next(event.ts for event in events if event.event_id == event_id)
        for what, event_id, _, notified, _ in with_cooldown
        if notified and what != "resolved"
    ]
    for before, after in pairwise(times):
        assert rule.cooldown_s == 0 or after - before >= timedelta(seconds=rule.cooldown_s)


def transitions(log: Iterable[Outcome]) -> list[tuple[str, str, int | None]]:
    return [outcome[:3] for outcome in log if outcome[0] != "violated"]


@properties
@given(rules(), ARRIVALS)
def test_a_resolution_is_notified_exactly_for_incidents_that_were(
    rule: Rule, events: list[Event]
) -> None:
    log = live(rule, events)
    for what, _, incident, notified, _ in log:
        if what == "resolved":
            before = [
                outcome[3] for outcome in log if outcome[2] == incident and outcome[0] != "resolved"
            ]
            assert notified == any(before)


@properties
@given(rules(), IN_ORDER)
def test_no_incident_outlives_the_first_violation_after_a_cooldown_without_a_notification(
    rule: Rule, events: list[Event]
) -> None:
    log = live(rule, events)
    times = {event.event_id: event.ts for event in events}
    last: datetime | None = None
    known: set[int | None] = set()
    for what, event_id, incident, notified, _ in log:
        ended = last is None or times[event_id] >= last + timedelta(seconds=rule.cooldown_s)
        if what != "resolved":
            assert notified == ended
        if notified:
            known.add(incident)
            last = last if what == "resolved" else times[event_id]
    assert {outcome[2] for outcome in log if outcome[0] == "resolved" and outcome[3]} <= known


# -- The sentences one by one. --


def test_an_incident_fires_is_notified_again_and_resolves_at_the_first_value_that_clears() -> None:
    assert story(HOT, (1, 40), (2, 60), (3, 70), (4, 50), (5, 40), (6, 51)) == [
        "fired e2",
        "violated e3",
        "resolved e4",
        "fired e6",
    ]


@pytest.mark.parametrize(
    ("op", "violating", "harmless"),
    [
        (Op.GT, [50.1, 51], [50, 49]),
        (Op.GE, [50, 51], [49.9]),
        (Op.LT, [49.9, -51], [50, 51]),
        (Op.LE, [50, 49], [50.1]),
        (Op.EQ, [50], [49.9, 50.1]),
        (Op.NE, [49.9, 50.1], [50]),
    ],
)
def test_each_comparison_fires_and_resolves_at_its_own_edge(
    op: Op, violating: list[float], harmless: list[float]
) -> None:
    rule = replace(HOT, op=op)
    for bad in violating:
        for good in harmless:
            assert story(rule, (1, bad), (2, good)) == ["fired e1", "resolved e2"]
            assert story(rule, (1, good)) == []


def test_between_clear_threshold_and_threshold_an_incident_stays_as_it_is() -> None:
    rule = replace(HOT, clear_threshold=40)
    assert story(rule, (1, 45), (2, 60), (3, 45), (4, 41), (5, 51), (6, 40), (7, 45)) == [
        "fired e2",
        "violated e5",
        "resolved e6",
    ]


def test_for_s_fires_at_the_first_violation_that_long_after_the_run_began() -> None:
    rule = replace(HOT, for_s=10)
    assert story(rule, (0, 60), (9.999, 60)) == []
    assert story(rule, (0, 60), (4, 60), (10, 60), (11, 60)) == ["fired e10", "violated e11"]
    assert story(rule, (0, 60), (300, 60)) == ["fired e300"]


def test_for_s_starts_again_when_the_run_is_broken() -> None:
    rule = replace(HOT, for_s=10)
    assert story(rule, (0, 60), (9, 50), (10, 60), (19, 60)) == []
    assert story(rule, (0, 60), (9, 50), (10, 60), (20, 60)) == ["fired e20"]
    assert story(rule, (0, 60), (10, 60), (11, 50), (12, 60), (21, 60), (22, 60)) == [
        "fired e10",
        "resolved e11",
        "fired e22",
    ]


def test_for_s_counts_event_time_not_the_time_of_arrival() -> None:
    rule = replace(HOT, for_s=10)
    batch = [altered(event, received_us=epoch_us(START)) for event in readings((0, 60), (10, 60))]
    stream = Stream(rule)
    stream.batch([batch])
    assert [what for what, *_ in stream.log] == ["fired"]


def test_an_event_without_the_metric_changes_nothing() -> None:
    rule = replace(HOT, for_s=10)
    assert story(rule, (0, 60), (5, None), (10, 60), (11, None), (12, 60)) == [
        "fired e10",
        "violated e12",
    ]
    # Nor does it make an older event late.
    assert story(HOT, (9, None), (2, 60), (1, 40)) == ["fired e2"]


def test_change_notifies_of_transitions_only() -> None:
    rule = replace(HOT, notify=Notify.CHANGE)
    assert story(rule, (1, 60), (2, 70), (3, 40), (4, 60), (3.5, 60)) == [
        "fired e1",
        "resolved e3",
        "fired e4",
    ]


def test_a_late_violation_is_notified_under_every_and_changes_nothing() -> None:
    assert story(HOT, (1, 60), (10, 60), (5, 70), (4, 40), (11, 60)) == [
        "fired e1",
        "violated e10",
        "violated e5 late",
        "violated e11",
    ]


def test_a_late_clear_does_not_resolve() -> None:
    assert story(HOT, (10, 60), (5, 40)) == ["fired e10"]


def test_a_late_violation_does_not_fire() -> None:
    assert story(HOT, (10, 40), (5, 60), (11, 40), (12, 60)) == ["violated e5 late", "fired e12"]


def test_a_late_event_neither_begins_nor_breaks_a_run() -> None:
    rule = replace(HOT, for_s=10)
    assert story(rule, (5, 40), (6, 60), (3, 60), (13, 60)) == []
    assert story(rule, (5, 60), (10, 60), (7, 40), (15, 60)) == ["fired e15"]


def test_an_event_as_old_as_the_newest_is_not_late() -> None:
    events = [reading(1, 60, "a"), reading(1, 40, "b"), reading(1, 70, "c")]
    assert [(what, event_id, late) for what, event_id, _, _, late in live(HOT, events)] == [
        ("fired", "a", False),
        ("resolved", "b", False),
        ("fired", "c", False),
    ]


def test_events_of_a_message_are_taken_by_time_and_event_id() -> None:
    stream = Stream(HOT)
    stream.batch([[reading(2, 60, "d"), reading(1, 40, "b"), reading(1, 60, "a")]])
    assert [outcome[:2] for outcome in stream.log] == [
        ("fired", "a"),
        ("resolved", "b"),
        ("fired", "d"),
    ]


def test_messages_of_a_batch_are_taken_as_they_arrived() -> None:
    stream = Stream(HOT)
    stream.batch([[reading(2, 60)], [reading(1, 40)]])
    assert [outcome[:2] for outcome in stream.log] == [("fired", "e2")]


def test_a_cooldown_begins_with_a_notification_and_ends_after_its_span() -> None:
    rule = replace(HOT, cooldown_s=10)
    assert story(rule, (0, 60), (5, 60), (9.999, 60), (10, 60), (15, 60), (20, 60)) == [
        "fired e0",
        "(violated e5)",
        "(violated e9.999)",
        "violated e10",
        "(violated e15)",
        "violated e20",
    ]


def test_an_incident_under_a_cooldown_is_recorded_though_its_start_is_not_notified() -> None:
    rule = replace(HOT, cooldown_s=60)
    log = live(rule, readings((0, 60), (1, 40), (2, 60), (3, 40)))
    assert log == [
        ("fired", "e0", 1, True, False),
        ("resolved", "e1", 1, True, False),
        ("fired", "e2", 2, False, False),
        ("resolved", "e3", 2, False, False),
    ]


def test_the_cooldown_of_change_spans_incidents() -> None:
    rule = replace(HOT, cooldown_s=10, notify=Notify.CHANGE)
    assert story(rule, (0, 60), (1, 40), (5, 60), (6, 40), (10, 60)) == [
        "fired e0",
        "resolved e1",
        "(fired e5)",
        "(resolved e6)",
        "fired e10",
    ]


@pytest.mark.parametrize("notify", Notify)
def test_the_first_violation_after_a_cooldown_notifies_an_incident_that_began_within_it(
    notify: Notify,
) -> None:
    rule = replace(HOT, cooldown_s=10, notify=notify)
    log = live(rule, readings((0, 60), (1, 40), (5, 60), (9, 60), (12, 60), (3000, 40)))
    assert [outcome[:3] for outcome in log if outcome[3]] == [
        ("fired", "e0", 1),
        ("resolved", "e1", 1),
        ("violated", "e12", 2),
        ("resolved", "e3000", 2),
    ]


def test_an_incident_that_clears_its_threshold_only_waits_for_a_violation() -> None:
    rule = replace(HOT, cooldown_s=10, notify=Notify.CHANGE, clear_threshold=30)
    log = live(rule, readings((0, 60), (1, 20), (5, 60), (12, 40), (13, 60), (14, 60), (15, 20)))
    assert [outcome[:2] for outcome in log if outcome[3]] == [
        ("fired", "e0"),
        ("resolved", "e1"),
        ("violated", "e13"),
        ("resolved", "e15"),
    ]


def test_flapping_under_a_cooldown_is_notified_in_pairs() -> None:
    values = [(float(at), 60 if at % 2 == 0 else 40) for at in range(12)]
    for notify in Notify:
        rule = replace(HOT, cooldown_s=10, notify=notify)
        log = live(rule, readings(*values))
        assert sum(outcome[0] == "fired" for outcome in log) == 6
        assert [outcome[:2] for outcome in log if outcome[3]] == [
            ("fired", "e0"),
            ("resolved", "e1"),
            ("fired", "e10"),
            ("resolved", "e11"),
        ]


def test_a_late_violation_that_is_notified_with_its_incident_has_its_resolution_notified() -> None:
    rule = replace(HOT, cooldown_s=10, clear_threshold=30)
    log = live(rule, readings((0, 60), (1, 20), (5, 60), (20, 40), (15, 60), (21, 20)))
    assert [outcome[:2] for outcome in log if outcome[3]][2:] == [
        ("violated", "e15"),
        ("resolved", "e21"),
    ]


def test_evaluation_knows_what_earlier_batches_have_seen() -> None:
    _, findings = evaluate(HOT, RuleState(), readings((5, 60)), second(6))
    assert in_words(findings) == ["violated e5"]
    assert [finding.late for finding in findings] == [True]
    state, findings = evaluate(HOT, RuleState(incident_id=3), readings((5, 60), (7, 40)), second(6))
    assert in_words(findings) == ["violated e5", "resolved e7"]
    assert state.decided_at == second(7)


# -- Gaps, rates and silences. --


def test_a_gap_breaks_a_run_and_leaves_an_incident_as_it_is() -> None:
    rule = replace(HOT, for_s=10, max_gap_s=6)
    assert story(rule, (0, 60), (5, 60), (11, 60)) == ["fired e11"]
    assert story(rule, (0, 60), (5, 60), (11.001, 60), (16, 60)) == []
    assert story(rule, (0, 60), (7, 60), (12, 60), (17, 60), (99, 60), (200, 40)) == [
        "fired e17",
        "violated e99",
        "resolved e200",
    ]


def test_an_event_without_violation_in_a_gap_keeps_no_run_alive() -> None:
    rule = replace(HOT, for_s=10, max_gap_s=6, tag=None)
    assert story(rule, (0, 60), (5, None), (10, 60)) == []  # An event without the metric is none.


def test_a_rate_is_the_change_per_minute_to_the_newest_earlier_event() -> None:
    rule = replace(HOT, condition=Condition.RATE, op=Op.GE, threshold=60)
    log = live(rule, readings((0, 10), (30, 39), (60, 69), (120, 129), (180, 188.9)))
    assert [outcome[:2] for outcome in log] == [
        ("fired", "e60"),
        ("violated", "e120"),
        ("resolved", "e180"),
    ]
    _, findings = evaluate(rule, RuleState(), readings((0, 10), (30, 39), (60, 69)), None)
    assert [finding.value for finding in findings] == [60.0]


def test_a_rate_has_no_result_at_equal_times_after_a_gap_and_for_late_events() -> None:
    rule = replace(HOT, condition=Condition.RATE, threshold=1, max_gap_s=60)
    equal = [reading(0, 1, "a"), reading(0, 90, "b"), reading(60, 91, "c"), reading(120, 93, "d")]
    assert [outcome[:2] for outcome in live(rule, equal)] == [("fired", "d")]
    assert story(rule, (0, 1), (61, 900)) == []
    assert story(rule, (60, 10), (30, 900), (90, 11)) == ["fired e90"]


def test_a_rate_beyond_a_double_is_the_largest_double() -> None:
    rule = replace(HOT, condition=Condition.RATE, threshold=1)
    _, findings = evaluate(rule, RuleState(), readings((0, -1.7e308), (1, 1.7e308)), None)
    assert [finding.value for finding in findings] == [float_info.max]


def muted_story(rule: Rule, *pairs: tuple[float, float, bool]) -> list[tuple[str, bool, bool]]:
    """What subscribers get of events that arrive one by one: what, whether muted, whether channels get it."""
    state, log = RuleState(), []
    for at, value, muted in pairs:
        event = reading(at, value, tags=["muted"] if muted else [])
        after, findings = evaluate(rule, state, [event], None, None, MUTE)
        firing = state.incident_id is not None
        for finding in findings:
            firing = finding.step is not Step.RESOLVED and (firing or finding.step is Step.FIRED)
            if finding.notified:
                log.append((f"{finding.step} {event.event_id}", finding.muted, finding.told))
        state = replace(after, incident_id=1 if firing else None)
    return log


@pytest.mark.parametrize("notify", Notify)
def test_what_a_silence_muted_is_told_by_the_first_violation_after_it(notify: Notify) -> None:
    rule = replace(HOT, notify=notify)
    log = muted_story(
        rule, (0, 60, True), (1, 60, True), (2, 60, False), (3, 60, False), (4, 40, True)
    )
    told = [what for what, _, told in log if told]
    assert told == ["violated e2", "resolved e4"]
    assert log[0] == ("fired e0", True, False)
    assert log[-1] == ("resolved e4", True, True)
    assert len(log) == (3 if notify is Notify.CHANGE else 5)


def test_channels_get_nothing_of_an_incident_that_begins_and_ends_under_a_silence() -> None:
    log = muted_story(HOT, (0, 60, True), (1, 40, False))
    assert log == [("fired e0", True, False), ("resolved e1", False, False)]


def test_a_muted_violation_starts_no_cooldown() -> None:
    rule = replace(HOT, cooldown_s=60)
    log = muted_story(rule, (0, 60, True), (1, 60, False), (2, 60, False), (61, 60, False))
    assert log == [
        ("fired e0", True, False),
        ("violated e1", False, True),
        ("violated e61", False, False),
    ]


@properties
@given(st.integers(0, 2**32), st.sampled_from([10, 60]))
def test_an_hour_of_swinging_around_the_threshold_is_one_incident(seed: int, step_s: int) -> None:
    """With a clear_threshold beyond the swing, and `notify: change`."""
    random = Random(seed)
    rule = replace(HOT, threshold=50, clear_threshold=49, notify=Notify.CHANGE)
    swing = [(float(at), 50 + random.uniform(-0.5, 0.5)) for at in range(0, 3600, step_s)]
    log = live(rule, readings((-2.0, 40), (-1.0, 50.4), *swing, (3600.0, 48.9)))
    assert [(what, event_id) for what, event_id, *_ in log] == [
        ("fired", "e-1"),
        ("resolved", "e3600"),
    ]


# -- Which pairs are looked at. --


def rows_of(events: Iterable[Event]) -> list[Row]:
    return [Row(DEVICE, event, MESSAGE, 0, order) for order, event in enumerate(events)]


def pairs_of(rule: Rule, events: Sequence[Event], state: RuleState | None = None) -> list[Any]:
    states = {} if state is None else {(DEVICE, rule.rule_id): state}
    return candidates(rows_of(events), RuleBook([rule]), states)


def test_a_quiet_pair_without_violation_is_not_looked_at() -> None:
    assert pairs_of(HOT, readings((1, 40), (2, None))) == []
    assert pairs_of(HOT, readings((1, 40)), RuleState(notified_at=START, decided_at=START)) == []


@pytest.mark.parametrize("state", [RuleState(incident_id=1), RuleState(pending_since=START)])
def test_a_pair_that_is_not_quiet_gets_every_event(state: RuleState) -> None:
    (pair,) = pairs_of(HOT, readings((1, 40), (2, None), (3, 30)), state)
    assert [event.event_id for event in pair.events] == ["e1", "e3"]
    assert pair.state == state


def test_a_pair_with_one_violation_gets_its_neighbours_too() -> None:
    (pair,) = pairs_of(HOT, readings((1, 40), (2, 60), (3, 40)))
    assert [event.event_id for event in pair.events] == ["e1", "e2", "e3"]


@pytest.mark.parametrize(
    ("device_id", "tag", "holds"),
    [
        (None, None, True),
        ("deviceA", None, True),
        ("deviceB", None, False),
        (None, "room:1", True),
        (None, "room", False),
        ("deviceA", "room:1", True),
        ("deviceA", "room:2", False),
        ("deviceB", "room:1", False),
    ],
)
def test_a_rule_holds_for_its_device_and_tag_or_for_all(
    device_id: str | None, tag: str | None, *, holds: bool
) -> None:
    rule = replace(HOT, device_id=device_id, tag=tag)
    event = reading(1, 60, tags=["room:1", "x"])
    assert applies(rule, event) is holds
    assert bool(pairs_of(rule, [event])) is holds


def test_rules_and_devices_keep_to_themselves() -> None:
    cold = replace(HOT, rule_id="r2", op=Op.LT, threshold=0)
    volts = replace(HOT, rule_id="r3", metric="voltage", threshold=400)
    other = DeviceNo(8)
    rows = [
        *rows_of([altered(reading(1, 60), metrics={"temp": 60.0, "voltage": 390.0})]),
        Row(other, altered(reading(2, -5), device_id="deviceB"), MESSAGE, 0, 1),
        *rows_of([altered(reading(3, -5), metrics={"voltage": 410.0})]),
    ]
    found = candidates(rows, RuleBook([HOT, cold, volts]), {})
    assert {(pair.rule.rule_id, pair.device_no): len(pair.events) for pair in found} == {
        ("r1", DEVICE): 1,
        ("r2", other): 1,
        ("r3", DEVICE): 2,
    }


# -- The rule as a caller writes it. --

MINIMAL: dict[str, Any] = {"metric": "temp", "op": ">", "threshold": 50}


def test_a_rule_needs_no_more_than_metric_op_and_threshold() -> None:
    assert RuleBody.model_validate(MINIMAL).model_dump(mode="json") == {
        "condition": "threshold",
        "device_id": None,
        "tag": None,
        "metric": "temp",
        "op": ">",
        "threshold": 50.0,
        "name": None,
        "severity": "warning",
        "for_s": 0,
        "max_gap_s": None,
        "clear_threshold": None,
        "cooldown_s": 0,
        "notify": "every",
        "channels": [],
        "enabled": True,
    }


@pytest.mark.parametrize(
    ("op", "on_the_right_side", "on_the_wrong_side"),
    [
        (">", [50, 49.9, -1e300], [50.1, 51]),
        (">=", [50, 49.9], [50.1]),
        ("<", [50, 50.1, 1e300], [49.9]),
        ("<=", [50, 50.1], [49.9, -50]),
        ("==", [], [49, 50, 51]),
        ("!=", [], [49, 50, 51]),
    ],
)
def test_clear_threshold_lies_on_the_harmless_side_and_has_no_place_with_equality(
    op: str, on_the_right_side: list[float], on_the_wrong_side: list[float]
) -> None:
    body = MINIMAL | {"op": op}
    for value in on_the_right_side:
        assert RuleBody.model_validate(body | {"clear_threshold": value}).clear_threshold == value
    for value in on_the_wrong_side:
        with pytest.raises(ValidationError, match="clear_threshold"):
            RuleBody.model_validate(body | {"clear_threshold": value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": None},
        {"metric": "a b"},
        {"metric": ""},
        {"op": "=>"},
        {"op": None},
        {"threshold": "50"},
        {"threshold": True},
        {"threshold": None},
        {"threshold": float("nan")},
        {"threshold": float("inf")},
        {"clear_threshold": "40"},
        {"device_id": "a/b"},
        {"device_id": ""},
        {"tag": ""},
        {"tag": "a\0"},
        {"tag": "t" * 129},
        {"name": ""},
        {"severity": "fatal"},
        {"for_s": -1},
        {"for_s": float("inf")},
        {"for_s": "10"},
        {"cooldown_s": -0.1},
        {"cooldown_s": 1e9},
        {"notify": "never"},
        {"enabled": "yes"},
        {"enabled": 1},
        {"treshold": 50},
    ],
    ids=str,
)
def test_a_rule_with_a_wrong_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RuleBody.model_validate(MINIMAL | wrong)
    RuleBody.model_validate(MINIMAL)


@pytest.mark.parametrize("missing", ["metric", "op", "threshold"])
def test_a_rule_without_metric_op_or_threshold_is_refused(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        RuleBody.model_validate({name: MINIMAL[name] for name in MINIMAL if name != missing})


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        (
            {"condition": "no_data", "for_s": 60, "op": ">"},
            "op",
            "not allowed with condition no_data",
        ),
        ({"condition": "no_data", "for_s": 60, "threshold": 1}, "threshold", "not allowed"),
        ({"condition": "no_data", "for_s": 60, "max_gap_s": 1}, "max_gap_s", "not allowed"),
        (
            {"condition": "no_data", "for_s": 60, "clear_threshold": 1},
            "clear_threshold",
            "not allowed",
        ),
        ({"condition": "no_data"}, "for_s", "at least 1 with condition no_data"),
        ({"condition": "no_data", "for_s": 0.5}, "for_s", "at least 1"),
        ({"condition": "rate", "op": ">"}, "threshold", "required with condition rate"),
        ({"condition": "rate", "threshold": 1}, "op", "required with condition rate"),
        ({"op": ">", "threshold": 1, "max_gap_s": 0}, "max_gap_s", "greater than 0"),
        ({"op": ">", "threshold": 1, "channels": ["a b"]}, "channels.0", "pattern"),
        ({"op": ">", "threshold": 1, "channels": ["x"] * 33}, "channels", "at most 32"),
        ({"condition": "gone"}, "condition", "'threshold', 'no_data' or 'rate'"),
    ],
    ids=str,
)
def test_a_field_that_does_not_belong_to_the_condition_is_named(
    wrong: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        RuleBody.model_validate({"metric": "temp"} | wrong)
    (fault, *_) = caught.value.errors()
    assert ".".join(map(str, fault["loc"])) == field
    assert message in fault["msg"]


def test_conditions_with_their_own_fields_are_accepted() -> None:
    for body in (
        {"condition": "no_data", "for_s": 60, "op": None, "threshold": None},
        {"condition": "rate", "op": "<", "threshold": -5, "max_gap_s": 600, "for_s": 60},
        {"op": ">", "threshold": 5, "max_gap_s": 600, "channels": ["mail", "ops"]},
    ):
        RuleBody.model_validate({"metric": "temp"} | body)


# -- Many rules. --


@properties
@given(
    st.lists(st.tuples(st.sampled_from(Op), st.integers(0, 5)), max_size=12),
    st.integers(-1, 6),
)
def test_the_rules_that_a_value_violates_are_found_by_bisection(
    limits: list[tuple[Op, int]], value: int
) -> None:
    found_rules = [
        replace(HOT, rule_id=f"r{n}", op=op, threshold=float(limit))
        for n, (op, limit) in enumerate(limits)
    ]
    found = {pair.rule.rule_id for pair in candidates(
        rows_of(readings((1, value))), RuleBook(found_rules), {}
    )}  # fmt: skip
    assert found == {
        f"r{n}" for n, (op, limit) in enumerate(limits) if COMPARE[op.value](value, limit)
    }
