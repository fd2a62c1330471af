"""What a page or program needs to know about this installation."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from litestar import Request, get
from litestar.di import NamedDependency

from api.auth.caller import caller
from runtime.addresses import connect_host, is_wildcard
from runtime.settings import Settings
from runtime.version import VERSION
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
    if settings.authenticated and caller().credential is None:
        return {"authentication": True}
    return {
        "version": VERSION,
        "authentication": settings.authenticated,
        "http_url": settings.public_url or str(request.base_url).rstrip("/"),
        "mqtt_url": settings.public_mqtt_url or _mqtt_url(settings, str(request.base_url)),
        "retention_days": settings.retention_days,
        "rejected_days": settings.rejected_days,
        "server_time": rfc3339(datetime.now(UTC)),
    }


def _mqtt_url(settings: Settings, base_url: str) -> str:
    """A guess: the embedded broker is where the caller found the API, if it listens there."""
    host = settings.mqtt_host
    if settings.mqtt_url is not None or not is_wildcard(host):
        return str(settings.mqtt)
    host = urlsplit(base_url).hostname or connect_host(host)
    return f"mqtt://{f'[{host}]' if ':' in host else host}:{settings.mqtt_port}"
