"""What callers register: devices, and profiles with the metrics, units and bounds of their devices."""

import re
from math import isfinite
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from runtime.plain_words import pattern_in_words
from schema.event import DEVICE_ID, ID, DeviceId, MetricName, MetricValue, Tag
from schema.zones import zone_names

MIN_INTERVAL_S, MAX_INTERVAL_S = 0.1, 366 * 86_400
MAX_TAGS = 32
MAX_ATTRIBUTES = 64
ATTRIBUTE_CHARS_MAX = 500
PROFILE_NAME = f"^{ID}$"
BAD_DEVICE_ID = f"device_id: it must be {pattern_in_words(DEVICE_ID)}."

ProfileName = Annotated[str, StringConstraints(pattern=PROFILE_NAME)]
Interval = Annotated[
    float,
    Field(
        strict=True, ge=MIN_INTERVAL_S, le=MAX_INTERVAL_S,
        description="Expected seconds between two signs of life",
    ),
]  # fmt: skip
DisplayName = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]
_ATTRIBUTE_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")


def _attribute(value: Any) -> float | str:
    if isinstance(value, str) and len(value) <= ATTRIBUTE_CHARS_MAX and "\0" not in value:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if isfinite(number):
            return number
    raise ValueError(
        f"a finite number, or a text of up to {ATTRIBUTE_CHARS_MAX} characters without NUL"
    )


def _attribute_name(name: str) -> str:
    if _ATTRIBUTE_NAME.fullmatch(name) is None:
        raise ValueError("a name has 1 to 128 characters, none of them a control character")
    return name


def _known_zone(name: str) -> str:
    if name not in zone_names():
        raise ValueError("an IANA name of a time zone, such as Europe/Berlin")
    return name


AttributeName = Annotated[
    str,
    AfterValidator(_attribute_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_ATTRIBUTE_NAME.pattern}$"}),
]
AttributeValue = Annotated[
    float | str,
    BeforeValidator(_attribute),
    WithJsonSchema({"type": ["number", "string"], "maxLength": ATTRIBUTE_CHARS_MAX}),
]
Zone = Annotated[str, AfterValidator(_known_zone)]
Unit = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
MetricBound = Annotated[MetricValue, Field(strict=True)]

_device_id, _profile_name = TypeAdapter(DeviceId), TypeAdapter(ProfileName)


def is_device_id(text: str) -> bool:
    return _fits(_device_id, text)


def is_profile_name(text: str) -> bool:
    return _fits(_profile_name, text)


class DeviceBody(BaseModel):
    """A registration as a caller writes it; an absent field is reset to its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_id: DeviceId | None = Field(None, description="If given, the same as in the path")
    name: DisplayName | None = Field(None, description="A display name")
    profile: ProfileName | None = Field(None, description="Null: DEFAULT_PROFILE")
    tags: Annotated[list[Tag], Field(max_length=MAX_TAGS)] = []
    attributes: Annotated[
        dict[AttributeName, AttributeValue],
        Field(max_length=MAX_ATTRIBUTES, description="Numbers and texts by name"),
    ] = {}
    interval_s: Interval | None = Field(None, description="Null: the interval of the profile")
    tz: Zone | None = Field(
        None, description="IANA name of the zone of its times without offset; null: UTC"
    )


class NewDeviceBody(DeviceBody):
    device_id: DeviceId


class MetricBody(BaseModel):
    """A metric of a profile; without a bound its values are unlimited on that side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Unit | None = None
    min: MetricBound | None = None
    max: MetricBound | None = None

    @model_validator(mode="after")
    def _min_before_max(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be greater than max")
        return self


class ProfileBody(BaseModel):
    """A profile as a caller writes it; an absent field is reset to its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ProfileName | None = Field(None, description="If given, the same as in the path")
    metrics: Annotated[dict[MetricName, MetricBody], Field(max_length=1000)] = {}
    interval_s: Interval | None = None
    receipts: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Whether its devices get receipts without requesting them"
    )


def _fits(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True
