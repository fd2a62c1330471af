"""Responses: what a process says about itself."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api.openapi.shapes.base import STRICT, Count, Time


@with_config(STRICT)
class InfoResponse(TypedDict):
    """Strangers see `authentication` alone."""

    authentication: bool
    version: NotRequired[str]
    key: NotRequired[
        Annotated[str | None, Field(description="Name of the caller's key; null without one")]
    ]
    scopes: NotRequired[
        Annotated[list[str] | None, Field(description="The scopes of the caller's key; null: all")]
    ]
    http_url: NotRequired[str]
    mqtt_url: NotRequired[str]
    retention_days: NotRequired[Count]
    rejected_days: NotRequired[Count]
    server_time: NotRequired[Time]


@with_config(STRICT)
class CheckResponse(TypedDict):
    status: Literal["ok", "failing"]
    detail: str


@with_config(STRICT)
class HealthResponse(TypedDict):
    """Strangers see `status` alone."""

    status: Literal["ok", "failing"]
    version: NotRequired[str]
    checks: NotRequired[dict[str, CheckResponse]]


@with_config(STRICT)
class LiveResponse(TypedDict):
    status: Literal["ok"]
