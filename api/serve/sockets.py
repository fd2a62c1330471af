"""The ports to listen on: bound at once or not at all, by one process or shared by several."""

import socket

from runtime.errors import StartError

BACKLOG = 2048


def listen(host: str, port: int, setting: str, *, shared: bool = False) -> socket.socket:
    """A listening socket. Raises StartError, which names the setting to change.

    `shared`: several Voltwire processes listen on the port, and the kernel distributes the connections.
    """
    listener = _bound(host, port, setting, shared=shared)
    try:
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _unusable(host, port, setting, error) from error
    return listener


def reserve(host: str, port: int, setting: str) -> socket.socket:
    """Reserve a port for processes that will share it. Raises StartError if the port is in use."""
    listen(host, port, setting).close()
    return _bound(host, port, setting, shared=True)


def _bound(host: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(
            f"{setting}: {host} is not an address of this machine ({error})."
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unusable(host, port, setting, error) from error
    return bound


def _unusable(host: str, port: int, setting: str, error: OSError) -> StartError:
    return StartError(f"Cannot listen on {host}:{port} ({error.strerror}): change {setting}.")
