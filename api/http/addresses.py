"""The addresses of this installation as its callers reach them."""

from urllib.parse import urlsplit

from runtime.addresses import connect_host, is_wildcard
from runtime.settings import Settings


def http_url(settings: Settings, base_url: str) -> str:
    return settings.public_url or base_url.rstrip("/")


def mqtt_url(settings: Settings, base_url: str) -> str:
    """A guess unless PUBLIC_MQTT_URL names it: the embedded broker is where the caller found the API."""
    if settings.public_mqtt_url:
        return settings.public_mqtt_url
    host = settings.mqtt_host
    if settings.mqtt_url is not None or not is_wildcard(host):
        return str(settings.mqtt)
    host = urlsplit(base_url).hostname or connect_host(host)
    return f"mqtt://{f'[{host}]' if ':' in host else host}:{settings.mqtt_port}"
