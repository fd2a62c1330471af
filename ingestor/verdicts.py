"""Counting verdicts: the outcome of the events of a door, or of a replay."""

from collections.abc import Iterable

from runtime.metrics import EventCounts
from schema.event import DUPLICATE, RANDOM_ID, STORED, Verdict


def count_verdicts(counts: EventCounts, verdicts: Iterable[Verdict]) -> None:
    """Add committed verdicts; `received` and `in_flight` are the caller's."""
    for verdict in verdicts:
        if verdict.status is STORED:
            counts.stored += 1
            if verdict.event_id is not None and verdict.event_id.startswith(RANDOM_ID):
                counts.without_identity += 1
        elif verdict.status is DUPLICATE:
            counts.duplicate += 1
            counts.reused_ids += verdict.reason is not None
        elif verdict.reason is not None:
            counts.rejected[verdict.reason] += 1
