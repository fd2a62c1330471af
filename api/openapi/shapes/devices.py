"""Responses: devices, their presence and their profiles."""

from typing import Annotated, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api.openapi.shapes.base import STRICT, Count, Number, Time
from schema.presence import IntervalSource, PresenceState


@with_config(STRICT)
class PresenceResponse(TypedDict):
    device_id: str
    state: PresenceState
    since: Time
    reason: str
    last_seen: Time | None
    expected_interval_s: Annotated[
        float | None, Field(description="The interval that rules the present silence")
    ]
    source: Annotated[IntervalSource, Field(description="Where expected_interval_s comes from")]
    flapping: Annotated[bool, Field(description="More than 6 changes in an hour")]


@with_config(STRICT)
class PresenceChangeResponse(TypedDict):
    id: Annotated[int, Field(description="The number of the change, as in the stream")]
    device_id: str
    state: PresenceState
    since: Time
    reason: str
    last_seen: Time | None


@with_config(STRICT)
class FleetResponse(TypedDict):
    total: Count
    states: dict[PresenceState, Count]
    flapping: Count
    open_incidents: Count


@with_config(STRICT)
class LatestValueResponse(TypedDict):
    value: Number
    timestamp: Time
    event_id: str


@with_config(STRICT)
class DeviceResponse(PresenceResponse):
    name: str | None
    profile: str
    tags: list[str]
    attributes: dict[str, float | str]
    interval_s: float | None
    tz: Annotated[str | None, Field(description="The zone of its times without offset; null: UTC")]
    registered: bool
    created_at: Time
    open_incidents: Count
    reused_ids: Annotated[
        int,
        Field(ge=0, description="Duplicates that are no resends: their event_id has another time"),
    ]
    reused_ids_at: Annotated[Time | None, Field(description="When the last of them was received")]
    completeness_percent: Annotated[
        float | None,
        Field(
            ge=0,
            le=100,
            description="How much of the last 24 hours was received; null without events that have a seq",
        ),
    ]


@with_config(STRICT)
class ImportedResponse(TypedDict):
    devices: Annotated[int, Field(ge=1, description="Rows of the file")]
    created: Annotated[int, Field(ge=0, description="Rows whose device is new")]
    changed: Annotated[int, Field(ge=0, description="Rows whose device had another registration")]


@with_config(STRICT)
class ListedDeviceResponse(DeviceResponse):
    latest: NotRequired[
        Annotated[
            dict[str, LatestValueResponse],
            Field(description="The newest value of each metric, with latest=true"),
        ]
    ]


@with_config(STRICT)
class LatestResponse(TypedDict):
    device_id: str
    metrics: dict[str, LatestValueResponse]


@with_config(STRICT)
class ProfileMetricResponse(TypedDict):
    unit: NotRequired[str]
    min: NotRequired[float]
    max: NotRequired[float]


@with_config(STRICT)
class ProfileResponse(TypedDict):
    name: str
    metrics: dict[str, ProfileMetricResponse]
    interval_s: float | None
    receipts: bool
