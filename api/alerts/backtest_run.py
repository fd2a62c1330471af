"""From readings to the incidents of a back-test, device by device. Pure.

Rules of `threshold` and `rate` are evaluated by the same code as live events (ingestor/alerts/evaluation.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ingestor.alerts.evaluation import SECOND_US, Evaluator, Reading, Step
from schema.rule import Notify, Rule, max_gap_s

INCIDENTS_SHOWN_MAX = 1000


@dataclass(slots=True)
class FoundIncident:
    """Instants are microseconds since the Unix epoch; a rank is that among the events of one time."""

    device_no: int
    opened_us: int
    opened_rank: int | None
    opened_value: float | None
    resolved_us: int | None = None
    resolved_rank: int | None = None

    def firing_us(self, start_us: int, until_us: int) -> int:
        until = until_us if self.resolved_us is None else min(self.resolved_us, until_us)
        return max(0, until - max(self.opened_us, start_us))


class Findings:
    """The incidents that fire at some time of [start, end): all are counted, the first ones are kept.

    Firing counts until `until_us`.
    """

    def __init__(self, start_us: int, end_us: int, until_us: int) -> None:
        self._start_us, self._end_us, self._until_us = start_us, end_us, until_us
        self.counts: dict[int, tuple[int, int]] = {}  # device → incidents, microseconds of firing
        self.shown: list[FoundIncident] = []
        self.total = 0

    def add(self, found: FoundIncident) -> None:
        over = found.resolved_us is not None and found.resolved_us <= self._start_us
        if over or found.opened_us >= self._end_us:
            return
        incidents, firing_us = self.counts.get(found.device_no, (0, 0))
        firing_us += found.firing_us(self._start_us, self._until_us)
        self.counts[found.device_no] = incidents + 1, firing_us
        self.total += 1
        if len(self.shown) < INCIDENTS_SHOWN_MAX:
            self.shown.append(found)


class RuleRun:
    """A rule of `threshold` or `rate` over the readings of one device after another, in event time."""

    def __init__(self, rule: Rule, intervals: Mapping[int, float], findings: Findings) -> None:
        # Only incidents are wanted, which notifications do not change.
        self._rule = replace(rule, notify=Notify.CHANGE, cooldown_s=0)
        self._intervals, self._findings = intervals, findings
        self._device_no: int | None = None
        self._evaluator: Evaluator[int] = Evaluator(self._rule)
        self._open: FoundIncident | None = None

    def read(self, device_no: int, readings: Iterable[Reading[int]]) -> None:
        if device_no != self._device_no:
            self.finish()
            gap_s = max_gap_s(self._rule.max_gap_s, self._intervals.get(device_no))
            self._device_no, self._evaluator = device_no, Evaluator(self._rule, gap_s)
        self._evaluator.read(readings)
        for finding in self._evaluator.findings:
            if finding.step is Step.FIRED:
                self._open = FoundIncident(device_no, finding.ts_us, finding.event, finding.value)
            elif self._open is not None and finding.step is Step.RESOLVED:
                self._open.resolved_us, self._open.resolved_rank = finding.ts_us, finding.event
                self.finish()
        self._evaluator.findings.clear()

    def finish(self) -> None:
        """The device has no more readings, or its incident resolved."""
        if self._open is not None:
            self._findings.add(self._open)
        self._open = None


class NoDataRun:
    """A rule of `no_data` over the times of receipt of one device after another, until `end_us`."""

    def __init__(self, rule: Rule, findings: Findings, end_us: int) -> None:
        self._for_us, self._findings, self._end_us = round(rule.for_s * SECOND_US), findings, end_us
        self._device_no: int | None = None
        self._last = 0

    def read(self, device_no: int, readings: Iterable[Reading[int]]) -> None:
        if device_no != self._device_no:
            self.finish()
            self._device_no, self._last = device_no, next(iter(readings))[0]
        for at, _, _ in readings:
            if at - self._last > self._for_us:
                opened_us = self._last + self._for_us
                self._findings.add(FoundIncident(device_no, opened_us, None, None, at))
            self._last = at

    def finish(self) -> None:
        if self._device_no is not None and self._end_us - self._last > self._for_us:
            opened_us = self._last + self._for_us
            self._findings.add(FoundIncident(self._device_no, opened_us, None, None))
        self._device_no = None
