"""Publishing on one connection, with a window of QoS 1 messages that await their PUBACK."""

import asyncio
from collections.abc import Callable
from itertools import cycle

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from broker import wire
from runtime.errors import BrokerUnavailable

PUBACK_S_MAX = 10
WINDOW_MAX = 100  # Unacknowledged messages; a broker may allow fewer.
TOPICS_SHOWN_MAX = 5
FAILURE = 0x80  # The lowest reason code of a failure [MQTT5-2.4].


class Publisher:
    """Belongs to one connection: packet ids start again on the next one."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._mids = cycle(range(1, 65_536))
        self._window = asyncio.Semaphore(WINDOW_MAX)
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._topics: dict[int, str] = {}  # The topics of the messages that wait.
        self._closed = False
        self._refused_topics: list[str] = []
        self.lost_topics: list[str] = []  # A broker that cuts us off has refused one of these.

    def set_receive_maximum(self, receive_maximum: int) -> None:
        """Respect the broker's limit in CONNACK [MQTT5-3.2.2.3.3]; call it before any `publish`."""
        self._window = asyncio.Semaphore(min(WINDOW_MAX, receive_maximum))

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Raises BrokerUnavailable when no PUBACK comes or its reason code is a failure."""
        try:
            async with asyncio.timeout(PUBACK_S_MAX), self._window:
                reason = await self._send_and_wait(topic, payload, qos=qos, retain=retain)
        except TimeoutError:
            raise BrokerUnavailable(f"The broker sent no PUBACK in {PUBACK_S_MAX} s.") from None
        if reason >= FAILURE:
            self._refused_topics = [topic, *self._refused_topics][:TOPICS_SHOWN_MAX]
            text = ReasonCode(PacketTypes.PUBACK, identifier=reason)
            raise BrokerUnavailable(f"The broker refused a message for {topic}: {text}.")

    def on_puback(self, body: bytes) -> None:
        """MQTT 3.1.1 has no reason code, and MQTT 5 may omit a 0."""
        puback = self._waiting.get(int.from_bytes(body[:2]))
        if puback is not None and not puback.done():
            puback.set_result(int.from_bytes(body[2:3]))

    def on_loss(self) -> None:
        """The connection is lost; `close` reports it to the publishers."""
        refused = self._refused_topics or self._topics.values()
        self.lost_topics = sorted(set(refused))[:TOPICS_SHOWN_MAX]

    def close(self) -> None:
        """Fail every present and future `publish`."""
        self._closed = True
        for puback in self._waiting.values():
            if not puback.done():
                puback.set_exception(_lost())
                puback.exception()  # A publisher cancelled now would leave it unseen, which is logged.

    async def _send_and_wait(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """The reason code of the PUBACK; 0 for QoS 0, which has no PUBACK."""
        if self._closed:
            raise _lost()
        mid = next(self._mids)
        self._send(wire.publish(topic, payload, qos=qos, retain=retain, mid=mid))
        if qos == 0:
            return 0
        puback: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[mid], self._topics[mid] = puback, topic
        try:
            return await puback
        finally:
            del self._waiting[mid], self._topics[mid]


def _lost() -> BrokerUnavailable:
    return BrokerUnavailable("The connection to the broker was lost before the PUBACK.")
