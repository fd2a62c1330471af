"""Responses: events, and what is computed from them."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api.openapi.shapes.base import STRICT, Count, Number, Time
from schema.event import DuplicateReason, Reason, Status


@with_config(STRICT)
class EventResponse(TypedDict):
    event_id: str
    device_id: str
    timestamp: Time
    metrics: dict[str, float]
    tags: list[str]
    seq: int | None
    received_at: Time


@with_config(STRICT)
class PostedResponse(TypedDict):
    status: Literal["ok", "duplicate"]
    event_id: NotRequired[
        Annotated[str, Field(description="The id that the server assigned, if it did")]
    ]
    reason: NotRequired[
        Annotated[DuplicateReason, Field(description="Why a duplicate is no resend")]
    ]


@with_config(STRICT)
class BatchItemResponse(TypedDict):
    event_id: str | None
    status: Status
    reason: NotRequired[Reason | DuplicateReason]


@with_config(STRICT)
class PointResponse(TypedDict):
    timestamp: Time
    metrics: dict[str, float]


@with_config(STRICT)
class PointsResponse(TypedDict):
    device_id: str
    truncated: bool
    points: list[PointResponse]


@with_config(STRICT)
class DaySummaryResponse(TypedDict):
    count: Count
    min: Number
    max: Number
    avg: Number


@with_config(STRICT)
class CompletenessResponse(TypedDict):
    expected: Count
    received: Count
    missing: Count
    percent: Annotated[float, Field(ge=0, le=100)]


@with_config(STRICT)
class GapResponse(TypedDict):
    from_time: Annotated[Time, Field(description="The time of the event before the gap")]
    to_time: Annotated[Time, Field(description="The time of the event after the gap")]
    after_seq: Count
    before_seq: Count
    missing: Count


@with_config(STRICT)
class SummaryResponse(TypedDict):
    device_id: str
    date: Annotated[str, Field(json_schema_extra={"format": "date"})]
    tz: str
    metrics: dict[str, DaySummaryResponse]
    completeness: NotRequired[CompletenessResponse]


@with_config(STRICT)
class BucketResponse(TypedDict):
    bucket: Time
    metric: NotRequired[str]
    device_id: NotRequired[str]
    tag: NotRequired[str]
    device_tag: NotRequired[str]
    count: NotRequired[Count]
    sum: NotRequired[Number]
    avg: NotRequired[Number]
    min: NotRequired[Number]
    max: NotRequired[Number]
    first: NotRequired[Number]
    last: NotRequired[Number]
    stddev: NotRequired[Number]
    p50: NotRequired[Number]
    p95: NotRequired[Number]
    p99: NotRequired[Number]


@with_config(STRICT)
class ColumnsResponse(TypedDict):
    metric: NotRequired[str]
    device_id: NotRequired[str]
    tag: NotRequired[str]
    device_tag: NotRequired[str]
    bucket: list[Time]
    count: NotRequired[list[Count]]
    sum: NotRequired[list[Number]]
    avg: NotRequired[list[Number]]
    min: NotRequired[list[Number]]
    max: NotRequired[list[Number]]
    first: NotRequired[list[Number]]
    last: NotRequired[list[Number]]
    stddev: NotRequired[list[Number]]
    p50: NotRequired[list[Number]]
    p95: NotRequired[list[Number]]
    p99: NotRequired[list[Number]]
