"""The types of settings that are written as text: what each accepts, and what a refusal says."""

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

_HEADER_TEXT = re.compile(r"[\x21-\x7e]{1,256}")


def listed(text: str | None) -> list[str]:
    """The items of a comma-separated list, without spaces around them."""
    return [each.strip() for each in (text or "").split(",") if each.strip()]


def _postgres_url(url: SecretStr) -> SecretStr:
    """Accept SQLAlchemy's scheme too: the services that Voltwire replaces have it in .env files."""
    scheme, separator, rest = url.get_secret_value().partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError("must start with postgresql:// (or postgresql+asyncpg://)")
    return SecretStr(f"postgresql://{rest}")


def _mqtt_url(url: SecretStr) -> SecretStr:
    expected = "must look like mqtt://user:password@host:1883 or mqtts://host:8883"
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in {"mqtt", "mqtts"} and parts.hostname and parts.port != 0
    except ValueError:  # An invalid port, whose text may be a part of the password.
        raise ValueError(expected) from None
    if not usable:
        raise ValueError(expected)
    return url


def _origins(text: str) -> str:
    for origin in listed(text):
        parts = urlsplit(origin)
        bare = parts.scheme in {"http", "https"} and f"{parts.scheme}://{parts.netloc}" == origin
        if origin != "*" and not (bare and parts.netloc):
            raise ValueError(
                "must list origins as browsers send them, comma separated, such as"
                " https://dashboard.example or http://localhost:3000"
            )
    return text


def _public_url(url: str) -> str:
    return _address(url, {"http", "https"}, "http://192.168.1.5:8000 or https://voltwire.example")


def _public_mqtt_url(url: str) -> str:
    return _address(url, {"mqtt", "mqtts"}, "mqtt://192.168.1.5:1883 or mqtts://broker.example")


def _address(url: str, schemes: set[str], examples: str) -> str:
    """An address that everyone may see, so it holds no password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in url:
        raise ValueError(f"must be an address without user and password, such as {examples}")
    return url.rstrip("/")


def _header_text(key: SecretStr) -> SecretStr:
    """It becomes a header."""
    if _HEADER_TEXT.fullmatch(key.get_secret_value()) is None:
        raise ValueError("must be what voltwire key create showed: vwk_ and letters and digits")
    return key


def _networks(text: str) -> str:
    for each in listed(text):
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise ValueError(
                "must list addresses or networks of proxies, comma separated, such as 127.0.0.1 or"
                f" 10.0.0.0/8, and {each!r} is none"
            ) from None
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
MqttUrl = Annotated[SecretStr, AfterValidator(_mqtt_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
PublicMqttUrl = Annotated[str, AfterValidator(_public_mqtt_url)]
OriginList = Annotated[str, AfterValidator(_origins)]
NetworkList = Annotated[str, AfterValidator(_networks)]
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_text)]
