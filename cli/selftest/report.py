"""The report of a selftest: the table, the findings, and what to do about them. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from cli.selftest.ledger import Comparison, Ledger, percentile
from cli.selftest.plan import Plan
from cli.tables import Row, counts_of, counts_table
from schema.event import Door

FINDINGS_SHOWN = 10


def rows(plan: Plan, ledger: Ledger, outcome: Comparison) -> list[Row]:
    return [
        ("attempted", len(plan.entries), f"events: {ledger.doors(ledger.entries)}"),
        ("repeated", plan.copies, "copies, on purpose"),
        ("resent", ledger.resent, "copies sent after no response or a request to retry"),
        ("recognised", ledger.recognised, "copies answered with duplicate"),
        ("acknowledged", len(ledger.acknowledged), ledger.doors(ledger.acknowledged)),
        ("rejected", len(ledger.rejected), _reasons(ledger) or "attempted events"),
        ("unanswered", len(ledger.unanswered), ledger.doors(ledger.unanswered)),
        ("recovered", outcome.recovered, "unanswered but returned"),
        ("lost", outcome.lost, "acknowledged but not returned or not counted"),
        ("duplicated", outcome.duplicated, "returned or counted more than once"),
        ("unexpected", outcome.unexpected, "returned but never sent like that"),
    ]


def table(plan: Plan, ledger: Ledger, outcome: Comparison) -> Table:
    shown = counts_table(rows(plan, ledger, outcome))
    for name, door in (("publish to receipt", Door.MQTT), ("post to response", Door.HTTP)):
        if seconds := ledger.seconds[door]:
            shown.add_row(name, f"{_ms(seconds, 50)} ms", f"p50; p99 {_ms(seconds, 99)} ms")
    return shown


def document(plan: Plan, ledger: Ledger, outcome: Comparison, fault: str | None) -> dict[str, Any]:
    """The report for programs: the counts of the table, times in seconds, every finding."""
    times = {
        name: {"p50": percentile(seconds, 50), "p99": percentile(seconds, 99)}
        for name, door in (("publish_to_receipt_s", Door.MQTT), ("post_to_answer_s", Door.HTTP))
        if (seconds := ledger.seconds[door])
    }
    found = {"findings": list(outcome.findings), "fault": fault}
    return counts_of(rows(plan, ledger, outcome)) | times | found


def findings(outcome: Comparison) -> list[str]:
    """The first findings, and how many more there are."""
    shown = outcome.findings[:FINDINGS_SHOWN]
    more = len(outcome.findings) - len(shown)
    return [*shown, *([f"and {more} more"] if more else [])]


def verdict(ledger: Ledger, outcome: Comparison, timeout_s: float) -> str | None:
    """What is wrong and what to do about it, in one sentence; None if nothing is wrong."""
    if not outcome.clean:
        return (
            f"{outcome.lost} events are lost, {outcome.duplicated} duplicated and {outcome.unexpected}"
            " unexpected: keep the lines above and look for errors in the logs of the roles and of"
            " PostgreSQL."
        )
    if ledger.rejected:
        return (
            f"{len(ledger.rejected)} events were rejected ({_reasons(ledger)}): docs/http-api.md"
            " explains the reason; compare the clocks of this machine and of the system."
        )
    if ledger.unanswered:
        return (
            f"{len(ledger.unanswered)} events have no response after {timeout_s:g} s"
            f" ({ledger.doors(ledger.unanswered)}): check that voltwire ingest and voltwire api run and"
            " that both use this broker and one database, or raise --timeout."
        )
    return None


def _reasons(ledger: Ledger) -> str:
    reasons = Counter(ledger.rejected.values())
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())


def _ms(seconds: Sequence[float], percent: float) -> str:
    return f"{percentile(seconds, percent) * 1000:.0f}"
