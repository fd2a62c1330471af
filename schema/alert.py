"""Alert rules and alerts: the rule on the wire, the rule in force, the alert object."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schema.event import DeviceId, MetricName, MetricValue, Tag, json_form
from schema.instants import rfc3339
from schema.registry import DisplayName

SILENT_RULE = "silent"  # The built-in rule: its incidents are devices that fell silent.
MAX_SPAN_S = 366 * 86_400


class Op(StrEnum):
    __hash__ = str.__hash__  # Much faster: Enum.__hash__ is Python code.

    GT = ">"
    GE = ">="
    LT = "<"
    LE = "<="
    EQ = "=="
    NE = "!="

    @property
    def compare(self) -> Callable[[float, float], bool]:
        return _COMPARE[self]


_COMPARE: dict[Op, Callable[[float, float], bool]] = {
    Op.GT: operator.gt,
    Op.GE: operator.ge,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
}


class Severity(StrEnum):
    WARNING = "warning"
    INFO = "info"
    CRITICAL = "critical"


class Notify(StrEnum):
    EVERY = "every"
    CHANGE = "change"


class AlertState(StrEnum):
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class RuleBody(BaseModel):
    """A rule as a caller writes it. Without device_id or tag it applies to all devices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_id: DeviceId | None = None
    tag: Tag | None = Field(None, description="A tag of the event")
    metric: MetricName
    op: Op
    threshold: Annotated[MetricValue, Field(strict=True)]
    name: DisplayName | None = None
    severity: Severity = Severity.WARNING
    for_s: Annotated[float, Field(strict=True, ge=0, le=MAX_SPAN_S)] = 0
    clear_threshold: Annotated[MetricValue, Field(strict=True)] | None = None
    cooldown_s: Annotated[float, Field(strict=True, ge=0, le=MAX_SPAN_S)] = 0
    notify: Notify = Notify.EVERY
    enabled: Annotated[bool, Field(strict=True)] = True

    @model_validator(mode="after")
    def _clear_threshold_on_the_right_side(self) -> Self:
        if self.clear_threshold is None:
            return self
        if self.op in {Op.EQ, Op.NE}:
            raise ValueError(f"clear_threshold is not allowed with {self.op}")
        wrong = (
            self.clear_threshold > self.threshold
            if self.op in {Op.GT, Op.GE}
            else self.clear_threshold < self.threshold
        )
        if wrong:
            raise ValueError(
                f"clear_threshold must not be on the violating side of the threshold for {self.op}"
            )
        return self


def resolve_limit(clear_threshold: float | None, threshold: float) -> float:
    """The limit that a value must have left for an incident to resolve."""
    return threshold if clear_threshold is None else clear_threshold


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in force. Durations are seconds of event time."""

    rule_id: str
    device_id: str | None
    tag: str | None
    metric: str
    op: Op
    threshold: float
    severity: Severity
    for_s: float
    clear_threshold: float | None
    cooldown_s: float
    notify: Notify
    in_force_from: datetime

    def violated_by(self, value: float) -> bool:
        return self.op.compare(value, self.threshold)

    def cleared_by(self, value: float) -> bool:
        return not self.op.compare(value, resolve_limit(self.clear_threshold, self.threshold))


@dataclass(frozen=True, slots=True)
class Notification:
    """One row of the outbox: an alert or a change of presence, sent to subscribers after the commit."""

    kind: str  # "alert" or "presence"
    device_id: str
    rule_id: str | None
    state: str
    late: bool
    body: Mapping[str, Any]
    channels: Sequence[str] = ()


def alert(
    *,
    device_id: str,
    metrics: Mapping[str, float],
    time: datetime,
    incident_id: int | None,
    rule_id: str,
    severity: str,
    state: AlertState,
    metric: str | None = None,
    value: float | None = None,
    op: str | None = None,
    threshold: float | None = None,
    late: bool = False,
    event_id: str | None = None,
) -> Notification:
    """The alert object. The services that Voltwire replaces have its first fields; the feed sets `id`."""
    return Notification(
        kind="alert",
        device_id=device_id,
        rule_id=rule_id,
        state=state,
        late=late,
        body={
            "device_id": device_id,
            "metrics": {name: json_form(reading) for name, reading in metrics.items()},
            "time": str(time.astimezone(UTC).replace(tzinfo=None)),
            "timestamp": rfc3339(time),
            "id": None,
            "incident_id": incident_id,
            "rule_id": rule_id,
            "metric": metric,
            "value": None if value is None else json_form(value),
            "op": op,
            "threshold": None if threshold is None else json_form(threshold),
            "severity": severity,
            "state": state,
            "late": late,
            "event_id": event_id,
        },
    )
