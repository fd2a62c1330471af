"""The random queries that the oracle answers, and the events that they are about."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

STATS = ("count", "sum", "avg", "min", "max", "first", "last", "stddev", "p50", "p95", "p99")
DEFAULT_STATS = STATS[:5]
OPERATORS = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it was first sent; `ts` in whole microseconds."""

    device_id: str
    event_id: str
    ts: datetime
    metrics: Mapping[str, float]
    tags: tuple[str, ...] = ()


class Condition(NamedTuple):
    name: str
    op: str
    number: float

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.number!r}"

    def holds(self, value: Decimal | None) -> bool:
        return value is not None and OPERATORS[self.op](value, Decimal(repr(self.number)))


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    metric: str
    start: datetime
    end: datetime
    interval: str = "1m"
    device_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group_by: str | None = None
    tz: str = "UTC"
    fill: str = "none"
    stats: tuple[str, ...] = DEFAULT_STATS
    more_metrics: tuple[str, ...] = ()
    device_tags: tuple[str, ...] = ()
    group_by_too: str | None = None
    tag_prefix: str | None = None
    device_tag_prefix: str | None = None
    where: tuple[Condition, ...] = ()
    having: tuple[Condition, ...] = ()
    max_points: int | None = None  # of interval=auto
    columns: bool = False

    @property
    def metrics(self) -> list[str]:
        return sorted({self.metric, *self.more_metrics})

    @property
    def keys(self) -> list[str]:
        """The members of a row that name its group."""
        by = {"device": "device_id"}
        groups = [key for key in (self.group_by, self.group_by_too) if key is not None]
        return ["metric"] * (len(self.metrics) > 1) + [by.get(key, key) for key in groups]

    @property
    def shown(self) -> list[str]:
        """The stats in the order of a response."""
        return [name for name in STATS if name in self.stats]

    @property
    def parameters(self) -> list[tuple[str, Any]]:
        """The parameters of the query string; defaults are left out."""
        several = [("device_id", name) for name in self.device_ids]
        several += [("tag", tag) for tag in self.tags]
        several += [("metric", name) for name in self.more_metrics]
        several += [("device_tag", tag) for tag in self.device_tags]
        several += [("where", str(condition)) for condition in self.where]
        several += [("having", str(condition)) for condition in self.having]
        if self.group_by_too is not None:
            several.append(("group_by", self.group_by_too))
        single = {
            "metric": self.metric,
            "from_time": self.start.isoformat(),
            "to_time": self.end.isoformat(),
            "interval": self.interval,
            "group_by": self.group_by,
            "tz": self.tz if self.tz != "UTC" else None,
            "fill": self.fill if self.fill != "none" else None,
            "stats": ",".join(self.stats) if self.stats != DEFAULT_STATS else None,
            "tag_prefix": self.tag_prefix,
            "device_tag_prefix": self.device_tag_prefix,
            "max_points": self.max_points,
            "format": "columns" if self.columns else None,
        }
        return [(name, value) for name, value in single.items() if value is not None] + several
