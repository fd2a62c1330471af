"""Responses: dead letters."""

from pydantic import with_config
from typing_extensions import TypedDict

from api.openapi.shapes.base import STRICT, Count, Time
from schema.event import Door, Reason


@with_config(STRICT)
class RejectedResponse(TypedDict):
    id: int
    received_at: Time
    door: Door
    device_id: str | None
    reason: Reason
    detail: str
    item: int | None
    size_bytes: Count
    replayed_at: Time | None


@with_config(STRICT)
class RejectedSummaryResponse(TypedDict):
    total: Count
    replayed: Count
    reasons: dict[Reason, Count]


@with_config(STRICT)
class RejectedPayloadResponse(RejectedResponse):
    payload: str | None
    payload_base64: str


@with_config(STRICT)
class ReplayResponse(TypedDict):
    letters: Count
    stored: Count
    duplicate: Count
    rejected: Count
    next: int | None
