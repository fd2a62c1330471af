"""What callers register: devices, and profiles with the metrics, units and bounds of their devices."""

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from schema.event import ID, DeviceId, MetricName, MetricValue, Tag

MIN_INTERVAL_S, MAX_INTERVAL_S = 0.1, 366 * 86_400
MAX_TAGS = 32
PROFILE_NAME = f"^{ID}$"
BAD_DEVICE_ID = "device_id: it must be a letter or digit, then up to 127 of [A-Za-z0-9._:-]."

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
    interval_s: Interval | None = Field(None, description="Null: the interval of the profile")


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
