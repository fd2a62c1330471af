"""What a session sends with QoS 1: a window of messages that wait for their PUBACK."""

import asyncio
from collections.abc import Callable
from itertools import cycle

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from broker import wire
from runtime.errors import BrokerUnavailable

PUBACK_S_MAX = 10
WINDOW_MAX = 100  # Unacknowledged messages, or fewer where the broker says so.
FAILURE = 0x80  # Reason codes from here on [MQTT5-2.4].


class Publisher:
    """Of one connection: its packet ids start again with the next one."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._mids = cycle(range(1, 65_536))
        self._window = asyncio.Semaphore(WINDOW_MAX)
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._closed = False

    def limit(self, receive_maximum: int) -> None:
        """What the broker's CONNACK allows [MQTT5-3.2.2.3.3]; called before anything is sent."""
        self._window = asyncio.Semaphore(min(WINDOW_MAX, receive_maximum))

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Raises BrokerUnavailable without a PUBACK, or when its reason code is a refusal."""
        try:
            async with asyncio.timeout(PUBACK_S_MAX), self._window:
                reason = await self._answered(topic, payload, qos=qos, retain=retain)
        except TimeoutError:
            raise BrokerUnavailable(f"The broker sent no PUBACK in {PUBACK_S_MAX} s.") from None
        if reason >= FAILURE:
            text = ReasonCode(PacketTypes.PUBACK, identifier=reason)
            raise BrokerUnavailable(f"The broker refused a message for {topic}: {text}.")

    def take_puback(self, body: bytes) -> None:
        """The reason code is left out when it is 0, and in 3.1.1."""
        puback = self._waiting.get(int.from_bytes(body[:2]))
        if puback is not None and not puback.done():
            puback.set_result(int.from_bytes(body[2:3]))

    def close(self) -> None:
        """Fail everything that waits, now and later."""
        self._closed = True
        for puback in self._waiting.values():
            if not puback.done():
                puback.set_exception(_lost())

    async def _answered(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """The reason code; 0 for QoS 0, which gets none."""
        if self._closed:
            raise _lost()
        mid = next(self._mids)
        self._send(wire.publish(topic, payload, qos=qos, retain=retain, mid=mid))
        if qos == 0:
            return 0
        puback: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[mid] = puback
        try:
            return await puback
        finally:
            del self._waiting[mid]


def _lost() -> BrokerUnavailable:
    return BrokerUnavailable("The connection to the broker was lost before the PUBACK.")
