"""The statistics of aggregates."""

from enum import StrEnum

from runtime.errors import InvalidRequest


class Stat(StrEnum):
    """In the order of a response."""

    COUNT = "count"
    SUM = "sum"
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    STDDEV = "stddev"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"


DEFAULT_STATS = (Stat.COUNT, Stat.SUM, Stat.AVG, Stat.MIN, Stat.MAX)
PERCENTILES = {Stat.P50: 0.5, Stat.P95: 0.95, Stat.P99: 0.99}


def parse_stats(text: str) -> tuple[Stat, ...]:
    """Read a comma-separated list. Raises InvalidRequest."""
    names = set(text.split(","))
    if unknown := sorted(names - set(Stat)):
        raise InvalidRequest(
            f"stats: {', '.join(unknown)[:64]!r} is unknown; use a comma-separated list of {', '.join(Stat)}."
        )
    return tuple(stat for stat in Stat if stat in names)
