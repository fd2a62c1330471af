"""The QoS 1 messages that the embedded broker keeps for the session of one client, in order."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

IN_FLIGHT_MAX = 5000  # As in mosquitto.conf.
MESSAGES_MAX = 100_000
BYTES_MAX = 256 * 1024 * 1024  # Payloads and topics; Python adds about 300 bytes per message.
PACKET_ID_MAX = 65_535
# The limit of all queues together, without those of Voltwire's own sessions.
OTHERS_BYTES_MAX = 256 * 1024 * 1024
MESSAGE_BYTES = 300  # Counted there for each message in addition.


class QueuedMessage(NamedTuple):
    topic: str
    payload: bytes
    retain: bool

    @property
    def size(self) -> int:
        return len(self.topic) + len(self.payload)


class SharedBudget:
    """The bytes of the messages in several queues."""

    def __init__(self) -> None:
        self._bytes = 0

    def take(self, message: QueuedMessage) -> bool:
        """Whether there is room for the message; then it counts until it is given back."""
        taken = self._bytes + message.size + MESSAGE_BYTES
        if taken > OTHERS_BYTES_MAX:
            return False
        self._bytes = taken
        return True

    def give_back(self, message: QueuedMessage) -> None:
        self._bytes -= message.size + MESSAGE_BYTES


class SessionQueue:
    """The messages in flight (sent, without PUBACK) and after them the waiting ones.

    A full queue refuses the newest message, as Mosquitto does: a client that stays away must not block
    the others. `refused` counts since the queue was last empty. Without `budget` only the limits of the queue
    itself count.
    """

    def __init__(self, budget: SharedBudget | None = None) -> None:
        self._budget = budget
        self._in_flight: dict[int, QueuedMessage] = {}
        self._waiting: deque[QueuedMessage] = deque()
        self._bytes = 0
        self._last_id = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._waiting)

    def add(self, message: QueuedMessage) -> bool:
        full = len(self) >= MESSAGES_MAX or self._bytes + message.size > BYTES_MAX
        if full or (self._budget and not self._budget.take(message)):
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
            if self._budget:
                self._budget.give_back(message)
        if not self:
            self.refused = 0

    def clear(self) -> None:
        """The session has ended."""
        if self._budget:
            for message in (*self._in_flight.values(), *self._waiting):
                self._budget.give_back(message)
        self._in_flight.clear()
        self._waiting.clear()
        self._bytes = self.refused = 0

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % PACKET_ID_MAX + 1
            if self._last_id not in self._in_flight:
                return self._last_id
