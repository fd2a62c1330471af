"""Whether a port is free, and which process uses it otherwise."""

import errno
import socket
from contextlib import suppress

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
                f"{host}:{port} is in use by {_listener(port)}: stop it, or change {setting}."
            ) from error


def _listener(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                return f"process {connection.pid}" if connection.pid else "another process"
    return "another process"
