"""The way of messages and their acknowledgements around the client library."""

import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from broker.wire import PacketFramer, PacketType, packet

READ_BYTES_MAX = 65_536
PUBLISH, PUBACK = int(PacketType.PUBLISH), int(PacketType.PUBACK)
# Linux only, and only until the next acknowledgement: asked for again after each piece.
QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class PublishTap:
    """A socket as paho sees it: without PUBLISH and PUBACK, which go straight to us.

    paho reads each packet in three system calls and hands it on through nine locks and two message
    objects: 51 µs, and 100 µs with MQTT 5, where this path takes 7 (measured side by side on 2 cores).
    The other packets come by a few times a minute.
    """

    def __init__(
        self,
        sock: Any,
        take_publish: Callable[[int, bytes], None],
        take_puback: Callable[[bytes], None],
        heard: Callable[[], None],
    ) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._take_publish, self._take_puback = sock, take_publish, take_puback
        self._heard = heard  # Called for each piece of the stream, whatever it holds.
        self._cutter, self._others = PacketFramer(), bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """The next bytes of the other packets; b"" at the end of the stream.

        Raises BlockingIOError when there are none now, ConnectionError when the stream makes no sense.
        """
        if not self._others:
            piece = self._read()
            if not piece:
                return b""
            self._sort(piece)
        if not self._others:
            raise BlockingIOError
        found = bytes(self._others[:size])
        del self._others[:size]
        return found

    def pending(self) -> int:
        """Bytes that no event of the socket will announce; aiomqtt reads on while there are any."""
        in_tls = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return len(self._others) + in_tls

    def _read(self) -> bytes:
        """One piece, with two requests to the kernel.

        Acknowledge at once: a broker that fills its segments holds a small message back until then
        (0.1 ms instead of 8 at low rates). And tell a reset now, not behind what is still unread:
        after an error uvloop calls us once more and then never again.
        """
        piece: bytes = self._sock.recv(READ_BYTES_MAX)
        if QUICKACK is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        if error := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        return piece

    def _sort(self, piece: bytes) -> None:
        self._heard()
        for first, body in self._cutter.cut(piece):
            packet_type = first >> 4
            if packet_type == PUBLISH:
                self._take_publish(first, body)
            elif packet_type == PUBACK:
                self._take_puback(body)
            else:
                self._others += packet(first, body)
