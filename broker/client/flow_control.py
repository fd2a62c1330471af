"""Stops reading from a broker that sends more than the Receive Maximum, and keeps the connection alive.

docs/decisions/0023-backpressure-stop-reading.md has the reasons. broker/client/connection.py explains the
private name `_ping_t`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog
from paho.mqtt.client import Client

PAUSE_CHECK_S = 1.0  # How often a paused connection is kept alive.

log = structlog.get_logger()


class FlowControl:
    """Whether the socket of a connection is read. `abort` ends the connection when reading fails."""

    def __init__(self, paho: Client, abort: Callable[[], None]) -> None:
        self._paho, self._abort = paho, abort
        self._loop = asyncio.get_running_loop()
        self._paused_socket: Any = None  # The socket while reading is paused.
        self._timer_runs = self._closed = False
        self.chunks = 0  # How many chunks of the stream were received so far.

    @property
    def paused(self) -> bool:
        return self._paused_socket is not None

    def close(self) -> None:
        """Keep a paused connection alive no longer."""
        self._closed = True

    def note_traffic(self) -> None:
        """Any byte counts as a PINGRESP, because that may come after a long backlog."""
        self.chunks += 1
        self._paho._ping_t = 0  # noqa: SLF001

    def pause_reading(self) -> None:
        """Let TCP slow down a broker that sends more than the Receive Maximum; nothing else can.

        Mosquitto 2.0.11 sends two messages for each acknowledgement while it has a backlog: after an
        outage of 10 minutes at 1,000/s, 340,000 messages were in flight.
        """
        sock: Any = self._paho.socket()
        if sock is not None and self._paused_socket is None:
            self._paused_socket = sock
            self._loop.remove_reader(sock.fileno())
            if not self._timer_runs:
                self._keep_alive_while_paused()

    def resume_reading(self) -> None:
        sock: Any = self._paused_socket
        self._paused_socket = None
        if cast("Any", self._paho.socket()) is sock:
            self._loop.add_reader(sock.fileno(), self._read)
            self._loop.call_soon(self._read)  # TLS may hold bytes that no event announces.

    def _keep_alive_while_paused(self) -> None:
        """While nothing is read, paho receives no PINGRESP and would close the connection."""
        self._timer_runs = self.paused and not self._closed
        if self._timer_runs:
            self.note_traffic()
            self._loop.call_later(PAUSE_CHECK_S, self._keep_alive_while_paused)

    def _read(self) -> None:
        """Do the same as the callback of aiomqtt, which cannot be accessed."""
        try:
            while (sock := self._paho.socket()) is not None and self._paused_socket is None:
                self._paho.loop_read()
                if not cast("Any", sock).pending():
                    return
        except Exception:
            log.exception("Reading from the broker failed: the session reconnects.")
            self._abort()
