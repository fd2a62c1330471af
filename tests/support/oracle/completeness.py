"""Which events are missing by `seq`, computed by brute force from the words of the contract.

A run is a stretch of events in the order (timestamp, seq) along which seq grows; expected is the sum of
last - first + 1 over its runs. Independent of the product: it lists every run and every number in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

JUMP_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    before: tuple[datetime, int]  # the event before it,
    after: tuple[datetime, int]  # and the one after it, to whose time it belongs

    @property
    def missing(self) -> int:
        return len(range(self.before[1] + 1, self.after[1]))


def runs_of(events: Iterable[tuple[datetime, int]]) -> list[list[tuple[datetime, int]]]:
    """Of equal neighbours only the first one is an event of its run."""
    runs: list[list[tuple[datetime, int]]] = []
    for event in sorted(events):
        run = runs[-1] if runs else []
        if run and event[1] == run[-1][1]:
            continue
        if run and 0 < event[1] - run[-1][1] <= JUMP_MAX:
            run.append(event)
        else:
            runs.append([event])
    return runs


def gaps_of(events: Sequence[tuple[datetime, int]], start: datetime, end: datetime) -> list[Gap]:
    """Newest first."""
    later_ends = [
        run[place]
        for run in runs_of(events)
        for place in range(1, len(run))
        if run[place][1] > run[place - 1][1] + 1
    ]
    gaps = [Gap(max(event for event in events if event < later), later) for later in later_ends]
    inside = [gap for gap in gaps if start <= gap.after[0] < end]
    return sorted(inside, key=lambda gap: gap.after, reverse=True)


def completeness_of(
    events: Sequence[tuple[datetime, int]], start: datetime, end: datetime
) -> tuple[int, int, int]:
    """(expected, received, missing) of a range."""
    received = sum(start <= ts < end for run in runs_of(events) for ts, _ in run)
    missing = sum(gap.missing for gap in gaps_of(events, start, end))
    return received + missing, received, missing


def expected_in_all(events: Sequence[tuple[datetime, int]]) -> int:
    return sum(run[-1][1] - run[0][1] + 1 for run in runs_of(events))
