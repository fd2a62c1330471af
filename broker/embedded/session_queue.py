"""The QoS 1 messages that the embedded broker keeps for the session of one client, in order."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

IN_FLIGHT_MAX = 5000  # As in mosquitto.conf.
MESSAGES_MAX = 100_000
BYTES_MAX = 256 * 1024 * 1024  # Payloads and topics; Python adds about 300 bytes per message.
PACKET_ID_MAX = 65_535


class QueuedMessage(NamedTuple):
    topic: str
    payload: bytes
    retain: bool

    @property
    def size(self) -> int:
        return len(self.topic) + len(self.payload)


class SessionQueue:
    """The messages in flight (sent, without PUBACK) and after them the waiting ones.

    A full queue refuses the newest message, as Mosquitto does: a client that stays away must not block
    the others. `refused` counts since the queue was last empty.
    """

    def __init__(self) -> None:
        self._in_flight: dict[int, QueuedMessage] = {}
        self._waiting: deque[QueuedMessage] = deque()
        self._bytes = 0
        self._last_id = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._waiting)

    def add(self, message: QueuedMessage) -> bool:
        if len(self) >= MESSAGES_MAX or self._bytes + message.size > BYTES_MAX:
            self.refused += 1
            return False
        self._waiting.append(message)
        self._bytes += message.size
        return True

    def due(self) -> Iterator[tuple[int, QueuedMessage]]:
        """The messages to send now, each with its packet id, until the window is full."""
        while self._waiting and len(self._in_flight) < IN_FLIGHT_MAX:
            mid = self._free_id()
            self._in_flight[mid] = message = self._waiting.popleft()
            yield mid, message

    def unacknowledged(self) -> list[tuple[int, QueuedMessage]]:
        """What a returning client gets again, in the original order [MQTT-4.4.0-1], [MQTT-4.6.0-1]."""
        return list(self._in_flight.items())

    def acknowledge(self, mid: int) -> None:
        message = self._in_flight.pop(mid, None)
        if message is not None:
            self._bytes -= message.size
        if not self:
            self.refused = 0

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % PACKET_ID_MAX + 1
            if self._last_id not in self._in_flight:
                return self._last_id
