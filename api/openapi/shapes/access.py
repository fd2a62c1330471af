"""Responses: credentials, sessions of browsers and the audit."""

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from api.openapi.shapes.base import STRICT, Time
from schema.access.credentials import Scope


@with_config(STRICT)
class KeyResponse(TypedDict):
    name: str
    scopes: list[Scope]
    created_at: Time
    last_used_at: Annotated[Time | None, Field(description="When it was last shown, to the minute")]


@with_config(STRICT)
class NewKeyResponse(TypedDict):
    name: str
    scopes: list[Scope]
    secret: Annotated[str, Field(description="It is shown here and never again")]


@with_config(STRICT)
class CredentialsResponse(TypedDict):
    device_id: str
    login: Annotated[str, Field(description="The user name at the broker")]
    secret: NotRequired[Annotated[str, Field(description="It is shown here and never again")]]


@with_config(STRICT)
class DeviceCredentialsResponse(TypedDict):
    device_id: str
    login: Annotated[str, Field(description="The user name at the broker")]
    secret: Annotated[bool, Field(description="Whether it has a secret")]
    certificate: Annotated[bool, Field(description="Whether its client certificates are accepted")]
    created_at: Time
    last_used_at: Annotated[
        Time | None, Field(description="When it was last shown over HTTP, to the minute")
    ]


@with_config(STRICT)
class RotatedResponse(CredentialsResponse):
    overlap_s: float


@with_config(STRICT)
class SessionResponse(TypedDict):
    key: str
    scopes: list[Scope]
    expires_in_s: int


@with_config(STRICT)
class AuditResponse(TypedDict):
    id: int
    at: Time
    actor: Annotated[str, Field(description="Who acted: key:NAME, device:ID, command, or anyone")]
    address: str | None
    action: str
    target: str | None
    details: dict[str, Any]
