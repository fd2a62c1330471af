"""Whether a port is free, and which process uses it otherwise."""

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass

import psutil

from runtime.errors import StartError


def require_free(host: str, port: int, setting: str) -> None:
    """Raises StartError that names the process listening there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(
                    f"{setting}: {host}:{port} cannot be used ({error.strerror})."
                ) from error
            raise StartError(
                f"{host}:{port} is in use by {listener_on(port) or Listener()}: stop it, or change {setting}."
            ) from error


@dataclass(frozen=True, slots=True)
class Listener:
    """The process that listens on a port, as far as this user may see it."""

    pid: int | None = None
    name: str | None = None
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        return f"process {self.pid}" + (f" ({self.name})" if self.name else "")


def listener_on(port: int) -> Listener | None:
    """None if nothing listens there, or if this user may not see any connection."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                return _listener(connection.pid)
    return None


def _listener(pid: int | None) -> Listener:
    if pid is not None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            return Listener(pid, process.name(), " ".join(process.cmdline()))
    return Listener(pid)
