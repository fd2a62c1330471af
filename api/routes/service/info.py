"""What a page or program needs to know about this installation."""

from datetime import UTC, datetime
from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency

from api.auth.caller import caller
from api.http.addresses import http_url, mqtt_url
from runtime.settings import Settings
from runtime.version import VERSION
from schema.access.secrets import CredentialKind
from schema.instants import rfc3339


@get(
    "/v1/info",
    summary="Version, addresses, authentication, retention, server time",
    description="Strangers see only that there is authentication.",
    tags=["Operation"],
)
async def info(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings]
) -> dict[str, Any]:
    credential = caller().credential
    if settings.authenticated and credential is None:
        return {"authentication": True}
    return {
        "version": VERSION,
        "authentication": settings.authenticated,
        "key": None
        if credential is None or credential.kind is not CredentialKind.KEY
        else credential.name,
        "scopes": None if credential is None else sorted(credential.scopes),
        "http_url": http_url(settings, str(request.base_url)),
        "mqtt_url": mqtt_url(settings, str(request.base_url)),
        "retention_days": settings.retention_days,
        "rejected_days": settings.rejected_days,
        "server_time": rfc3339(datetime.now(UTC)),
    }
