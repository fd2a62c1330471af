"""Alert rules: the rule on the wire, and the rule in force."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from schema.alert import Severity
from schema.channels.body import ChannelName
from schema.event import DeviceId, MetricName, MetricValue, Tag
from schema.registry import DisplayName

MAX_SPAN_S = 366 * 86_400
NO_DATA_S_MIN = 1
GAP_INTERVALS = 5  # Without max_gap_s, a run of a device ends after this many of its set intervals.
MAX_CHANNELS = 32
# The last receipt of a metric is not renewed while it is fresher than these seconds, or this share of for_s.
RECEIPT_STEP_S_MAX, RECEIPT_STEP_SHARE = 2, 0.1


class Condition(StrEnum):
    THRESHOLD = "threshold"
    NO_DATA = "no_data"
    RATE = "rate"


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


class Notify(StrEnum):
    EVERY = "every"
    CHANGE = "change"


Limit = Annotated[MetricValue, Field(strict=True)]
Span = Annotated[float, Field(strict=True, ge=0, le=MAX_SPAN_S)]


class RuleBody(BaseModel):
    """A rule as a caller writes it. Without device_id or tag it applies to all devices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    condition: Condition = Field(
        Condition.THRESHOLD,
        description="threshold: the value; rate: its change per minute; no_data: no value for for_s seconds",
    )
    device_id: DeviceId | None = None
    tag: Tag | None = Field(None, description="A tag of the event")
    metric: MetricName
    op: Op | None = Field(None, validate_default=True, description="Not with no_data")
    threshold: Limit | None = Field(None, validate_default=True, description="Not with no_data")
    name: DisplayName | None = None
    severity: Severity = Severity.WARNING
    for_s: Span = Field(0, validate_default=True, description="At least 1 with no_data")
    max_gap_s: Annotated[float, Field(strict=True, gt=0, le=MAX_SPAN_S)] | None = Field(
        None,
        description="A longer gap between two events breaks a run of violations, and has no rate. Null:"
        f" {GAP_INTERVALS} times the interval set for the device or its profile. Not with no_data",
    )
    clear_threshold: Limit | None = Field(None, description="Not with no_data, == and !=")
    cooldown_s: Span = 0
    notify: Notify = Notify.EVERY
    channels: Annotated[list[ChannelName], Field(max_length=MAX_CHANNELS)] = Field(
        [], description="Names of channels that get the incidents"
    )
    enabled: Annotated[bool, Field(strict=True)] = True

    @field_validator("op", "threshold")
    @classmethod
    def _compares_unless_no_data(cls, value: Any, info: ValidationInfo) -> Any:
        condition = info.data.get("condition")
        if condition is Condition.NO_DATA:
            return _absent(value)
        if value is None and condition is not None:
            raise ValueError(f"required with condition {condition}")
        return value

    @field_validator("max_gap_s", "clear_threshold")
    @classmethod
    def _has_no_place_in_no_data(cls, value: Any, info: ValidationInfo) -> Any:
        return _absent(value) if info.data.get("condition") is Condition.NO_DATA else value

    @field_validator("for_s")
    @classmethod
    def _long_enough_for_no_data(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("condition") is Condition.NO_DATA and value < NO_DATA_S_MIN:
            raise ValueError(f"at least {NO_DATA_S_MIN} with condition no_data")
        return value

    @model_validator(mode="after")
    def _clear_threshold_on_the_right_side(self) -> Self:
        if self.clear_threshold is None or self.threshold is None:
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


def _absent(value: Any) -> None:
    if value is not None:
        raise ValueError("not allowed with condition no_data")


def resolve_limit(clear_threshold: float | None, threshold: float | None) -> float | None:
    """The limit that a value must have left for an incident to resolve."""
    return threshold if clear_threshold is None else clear_threshold


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in force. Spans are seconds of event time, those of `no_data` of time of receipt.

    A rule of `no_data` has neither op nor threshold.
    """

    rule_id: str
    device_id: str | None
    tag: str | None
    metric: str
    op: Op | None
    threshold: float | None
    severity: Severity
    for_s: float
    clear_threshold: float | None
    cooldown_s: float
    notify: Notify
    in_force_from: datetime
    condition: Condition = Condition.THRESHOLD
    max_gap_s: float | None = None
    name: str | None = None
    channels: tuple[str, ...] = ()

    @property
    def comparison(self) -> tuple[Op, float]:
        """The op and threshold that a rule of `threshold` or `rate` has."""
        if self.op is None or self.threshold is None:
            raise LookupError(f"The rule {self.rule_id} compares nothing.")
        return self.op, self.threshold

    @property
    def keeps_last(self) -> bool:
        """Whether every event of its metric counts, because the next one is compared with it."""
        return self.condition is Condition.RATE


def max_gap_s(rule_gap_s: float | None, interval_s: float | None) -> float | None:
    """The longest gap inside a run; `interval_s` is the interval set for the device or its profile."""
    if rule_gap_s is not None or interval_s is None:
        return rule_gap_s
    return GAP_INTERVALS * interval_s


def receipt_step_s(for_s: float) -> float:
    """The last receipt of `no_data` is not renewed while it is fresher than this."""
    return min(RECEIPT_STEP_S_MAX, RECEIPT_STEP_SHARE * for_s)


def rule_of(body: RuleBody, rule_id: str, in_force_from: datetime) -> Rule:
    return Rule(
        rule_id=rule_id,
        device_id=body.device_id,
        tag=body.tag,
        metric=body.metric,
        op=body.op,
        threshold=body.threshold,
        severity=body.severity,
        for_s=body.for_s,
        clear_threshold=body.clear_threshold,
        cooldown_s=body.cooldown_s,
        notify=body.notify,
        in_force_from=in_force_from,
        condition=body.condition,
        max_gap_s=body.max_gap_s,
        name=body.name,
        channels=tuple(body.channels),
    )
