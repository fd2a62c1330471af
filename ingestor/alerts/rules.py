"""The rules in force, and which of them new events concern. Pure.

Nearly every event violates nothing, however many rules there are: it costs one comparison per metric that any
rule names (`MetricRules`).
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ingestor.alerts.evaluation import RuleState
from ingestor.alerts.silences import NOT_MUTED, Mute
from ingestor.batch import Row, in_order_of_evaluation
from schema.event import DeviceNo, Event
from schema.rule import Condition, Op, Rule

Pair = tuple[DeviceNo, str]  # A device and a rule_id.


@dataclass(slots=True)
class Candidate:
    """A (rule, device) whose state may change, with its events of this batch and its state before."""

    rule: Rule
    device_no: DeviceNo
    state: RuleState
    events: list[Event] = field(default_factory=list)
    max_gap_s: float | None = None
    mute: Mute = NOT_MUTED


class MetricRules:
    """The rules of one metric. A value between `below` and `above` violates at most one of the `others`."""

    __slots__ = ("_over", "_under", "above", "below", "others")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._over = _Sorted(rules, Op.GT, Op.GE)
        self._under = _Sorted(rules, Op.LT, Op.LE)
        self.above = min(self._over.limits, default=float("inf"))
        self.below = max(self._under.limits, default=float("-inf"))
        self.others = [rule for rule in rules if rule.keeps_last or rule.op in {Op.EQ, Op.NE}]

    def concerned(self, value: float) -> Iterator[Rule]:
        """The rules that the value violates, and those for which every value counts."""
        yield from self._over.rules[: bisect_left(self._over.keys, (value, 1))]
        yield from self._under.rules[bisect_right(self._under.keys, (value, 0)) :]
        for rule in self.others:
            op, threshold = rule.comparison
            if rule.keeps_last or op.compare(value, threshold):
                yield rule


class _Sorted:
    """Rules of two ops by threshold, so that those that a value violates are one end of the list.

    A key is (threshold, rank). The key (v, 1) lies behind `>= v` and is that of `> v`; the key (v, 0) is that
    of `< v` and lies before `<= v`.
    """

    __slots__ = ("keys", "limits", "rules")

    def __init__(self, rules: Iterable[Rule], strict: Op, inclusive: Op) -> None:
        found = [
            (rule.comparison, rule)
            for rule in rules
            if rule.op in {strict, inclusive} and not rule.keeps_last
        ]
        over = strict is Op.GT
        keyed = [
            ((threshold, int((op is strict) is over)), rule) for (op, threshold), rule in found
        ]
        keyed.sort(key=lambda pair: pair[0])
        self.keys = [key for key, _ in keyed]
        self.limits = [threshold for threshold, _ in self.keys]
        self.rules = [rule for _, rule in keyed]


class RuleBook:
    """The rules in force, by metric: general ones, and those of one device."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.by_id = {rule.rule_id: rule for rule in rules}
        general: dict[str, list[Rule]] = defaultdict(list)
        special: dict[str, dict[str, list[Rule]]] = defaultdict(lambda: defaultdict(list))
        self.no_data: dict[str, list[Rule]] = defaultdict(list)
        for rule in self.by_id.values():
            if rule.condition is Condition.NO_DATA:
                self.no_data[rule.metric].append(rule)
            elif rule.device_id is None:
                general[rule.metric].append(rule)
            else:
                special[rule.device_id][rule.metric].append(rule)
        self.general = _by_metric(general)
        self.special = {device_id: _by_metric(found) for device_id, found in special.items()}

    def __bool__(self) -> bool:
        return bool(self.by_id)


def _by_metric(rules: Mapping[str, Sequence[Rule]]) -> dict[str, MetricRules]:
    return {metric: MetricRules(of_metric) for metric, of_metric in rules.items()}


def candidates(
    rows: Sequence[Row], rules: RuleBook, states: Mapping[Pair, RuleState]
) -> list[Candidate]:
    """The pairs whose state may change: an event violates the rule, or the state is not quiet."""
    active = {pair for pair, state in states.items() if not state.quiet}
    active.update(_concerned(rows, rules))
    rules_of: dict[DeviceNo, list[Rule]] = defaultdict(list)
    for device_no, rule_id in sorted(active):
        rule = rules.by_id.get(rule_id)
        if rule is not None and rule.condition is not Condition.NO_DATA:
            rules_of[device_no].append(rule)
    if not rules_of:
        return []
    found: dict[Pair, Candidate] = {}
    for row in in_order_of_evaluation(row for row in rows if row.device_no in rules_of):
        for rule in rules_of[row.device_no]:
            if rule.metric not in row.event.metrics or not applies(rule, row.event):
                continue
            pair = (row.device_no, rule.rule_id)
            if pair not in found:
                found[pair] = Candidate(rule, row.device_no, states.get(pair, RuleState()))
            found[pair].events.append(row.event)
    return list(found.values())


def received(rows: Iterable[Row], rules: RuleBook) -> dict[Pair, Event]:
    """The pairs of `no_data` whose metric arrived, each with its newest arrival."""
    found: dict[Pair, Event] = {}
    if not rules.no_data:
        return found
    for row in rows:
        for metric in row.event.metrics.keys() & rules.no_data.keys():
            for rule in rules.no_data[metric]:
                if applies(rule, row.event):
                    found[row.device_no, rule.rule_id] = row.event
    return found


def _concerned(rows: Iterable[Row], rules: RuleBook) -> Iterator[Pair]:
    """The pairs that an event violates or counts for. Most events cost no more than this loop."""
    general, special = rules.general, rules.special
    if not general and not special:
        return
    for row in rows:
        event = row.event
        own = special.get(event.device_id)
        for of_metric in (general,) if own is None else (general, own):
            for metric, value in event.metrics.items():
                found = of_metric.get(metric)
                if found is not None and (
                    value >= found.above or value <= found.below or found.others
                ):
                    for rule in found.concerned(value):
                        if applies(rule, event):
                            yield row.device_no, rule.rule_id


def applies(rule: Rule, event: Event) -> bool:
    if rule.device_id is not None and rule.device_id != event.device_id:
        return False
    return rule.tag is None or rule.tag in event.tags
