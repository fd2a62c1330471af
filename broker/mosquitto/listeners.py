"""The part of Mosquitto's configuration that authentication decides about: its listeners."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from broker.mosquitto.rights import HEADER
from runtime.errors import StartError

PASSWORD_FILE, ACL_FILE, CERTIFICATE_ACL_FILE = "password_file", "acl_file", "acl_certificates"
SERVER_CERTIFICATE, SERVER_KEY = "server.crt", "server.key"
CLIENT_AUTHORITY, CLIENT_REVOCATIONS = "clients.crt", "clients.crl"

PORT_MAX = 65_535

_match_address = re.compile(r"(?:(?P<host>[^\s:]+|\[[0-9A-Fa-f:.%]+\]):)?(?P<port>\d+)").fullmatch


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Without a host it is every interface."""

    port: int
    host: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless the text is `[ADDRESS:]PORT`."""
        found = _match_address(text)
        if found is None or not 0 < int(found["port"]) <= PORT_MAX:
            raise ValueError(
                f"{text} is not [ADDRESS:]PORT, such as 1883, 127.0.0.1:1883 or [::1]:1883"
            )
        return cls(int(found["port"]), found["host"] and found["host"].strip("[]"))

    def __str__(self) -> str:
        return f"listener {self.port}" + (f" {self.host}" if self.host else "")


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of a folder that is mounted for TLS."""

    folder: Path

    @property
    def has_server(self) -> bool:
        """Raises StartError if the certificate is there and its key is not."""
        if not self._has(SERVER_CERTIFICATE):
            return False
        if not self._has(SERVER_KEY):
            raise StartError(
                f"{self.folder} holds {SERVER_CERTIFICATE} and no {SERVER_KEY}: add the key."
            )
        return True

    @property
    def has_clients(self) -> bool:
        """Whether devices may show a certificate of their own."""
        return self.has_server and self._has(CLIENT_AUTHORITY)

    @property
    def server_lines(self) -> list[str]:
        return [
            "tls_version tlsv1.2",
            f"certfile {self.folder / SERVER_CERTIFICATE}",
            f"keyfile {self.folder / SERVER_KEY}",
        ]

    @property
    def client_lines(self) -> list[str]:
        lines = [f"cafile {self.folder / CLIENT_AUTHORITY}", "require_certificate true"]
        if self._has(CLIENT_REVOCATIONS):
            lines.append(f"crlfile {self.folder / CLIENT_REVOCATIONS}")
        return [*lines, "use_subject_as_username true", "use_username_as_clientid true"]

    def stamp(self) -> tuple[tuple[str, int], ...]:
        """Another value after each renewal."""
        return tuple(
            (file.name, file.stat().st_mtime_ns)
            for file in sorted(self.folder.glob("*"))
            if file.is_file()
        )

    def _has(self, name: str) -> bool:
        return (self.folder / name).is_file()


@dataclass(frozen=True, slots=True)
class Listeners:
    """`plain` is always open; `tls` with a certificate, and `certificate` also with a client authority."""

    plain: ListenAddress
    tls: ListenAddress
    certificate: ListenAddress
    certificates: Certificates | None = None

    def with_certificates(self, certificates: Certificates | None) -> Self:
        return replace(self, certificates=certificates)

    def open_configuration(self) -> str:
        """Everybody who reaches a listener may do everything."""
        parts = [HEADER + "allow_anonymous true", str(self.plain)]
        if self.certificates is not None and self.certificates.has_server:
            parts.append(_section(self.tls, self.certificates.server_lines))
        return "\n\n".join(parts) + "\n"

    def closed_configuration(self, folder: Path) -> str:
        """Everybody logs in. `folder` is where password_file and acl_file are."""
        certificates = self.certificates
        logins = [
            "allow_anonymous false",
            f"password_file {folder / PASSWORD_FILE}",
            f"acl_file {folder / ACL_FILE}",
        ]
        bound = ["use_username_as_clientid true"]
        if certificates is None or not certificates.has_clients:
            parts = ["\n".join(logins), _section(self.plain, bound)]
            if certificates is not None and certificates.has_server:
                parts.append(_section(self.tls, [*certificates.server_lines, *bound]))
            return HEADER + "\n\n".join(parts) + "\n"
        # Certificates have an access list of their own, in which no pattern gives rights to any name.
        by_name = ["allow_anonymous false", f"acl_file {folder / CERTIFICATE_ACL_FILE}"]
        return (
            "\n\n".join(
                [
                    HEADER + "per_listener_settings true",
                    _section(self.plain, [*logins, *bound]),
                    _section(self.tls, [*certificates.server_lines, *logins, *bound]),
                    _section(
                        self.certificate,
                        [*certificates.server_lines, *certificates.client_lines, *by_name],
                    ),
                ]
            )
            + "\n"
        )


def _section(address: ListenAddress, lines: list[str]) -> str:
    return "\n".join([str(address), *lines])
