"""Hosts and the broker's address: what is loopback, what a client connects to."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

MQTT_PORT, MQTTS_PORT = 1883, 8883


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """A broker's address with the credentials and certificates that it requires."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    embedded: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> Self:
        parts = urlsplit(url)
        tls = parts.scheme == "mqtts"
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or (MQTTS_PORT if tls else MQTT_PORT),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
        )

    @property
    def anonymous(self) -> bool:
        """Whether nothing here says who we are."""
        return self.username is None and self.password is None and self.cert_file is None

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def both_forms(network: str) -> list[str]:
    """A network, and for IPv4 the same one as `::ffff:a.b.c.d`, as an IPv6 socket names its clients."""
    parsed = ipaddress.ip_network(network)
    if parsed.version != 4:  # noqa: PLR2004  # IPv4.
        return [str(parsed)]
    return [str(parsed), f"::ffff:{parsed.network_address}/{96 + parsed.prefixlen}"]


def is_wildcard(host: str) -> bool:
    """Whether a listener on it takes connections to every address of the machine."""
    return host in {"0.0.0.0", "::"}  # noqa: S104


def connect_host(listen_host: str) -> str:
    """The address at which our own clients reach a listener on `listen_host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen_host, listen_host)  # noqa: S104


def http_url(listen_host: str, port: int) -> str:
    """The base URL of a server of ours that listens there."""
    host = connect_host(listen_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
