"""Receipts: the verdict on each event, sent to its device after the commit.

There is one receipt per telemetry message, with one item per event, in order. A receipt that cannot be
sent is dropped: the device keeps its events until it gets one, resends them and receives `duplicate`.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from prometheus_client import Counter

from broker import topics
from broker.client.delivery import Delivery
from broker.client.session import Session
from runtime.errors import BrokerUnavailable
from schema.event import Verdict

WAITING_MAX = 20_000
SENT_AT_ONCE = 200

log = structlog.get_logger()


class Receipt(NamedTuple):
    topic: str
    payload: bytes
    correlation_data: bytes | None


class Receipts:
    def __init__(self, counter: Counter) -> None:
        self._sent, self._dropped = counter.labels("sent"), counter.labels("dropped")
        self._waiting: deque[Receipt] = deque(maxlen=WAITING_MAX)
        self._not_empty = asyncio.Event()

    def add(
        self, delivery: Delivery, device_id: str, verdicts: Sequence[Verdict], *, wanted: bool
    ) -> None:
        """Queue a receipt if the device wants them or named a response topic of its own (MQTT 5)."""
        response_topic = delivery.response_topic
        if response_topic is not None and topics.takes_receipts(response_topic, device_id):
            self._put(Receipt(response_topic, _payload(verdicts), delivery.correlation_data))
        elif wanted:
            self._put(Receipt(topics.receipts(device_id), _payload(verdicts), None))

    async def send(self, session: Session) -> None:
        """Send the queued receipts, until cancelled."""
        while True:
            await self._not_empty.wait()
            self._not_empty.clear()
            while self._waiting:
                some = [
                    self._waiting.popleft() for _ in range(min(SENT_AT_ONCE, len(self._waiting)))
                ]
                await asyncio.gather(*(self._send(session, receipt) for receipt in some))

    def _put(self, receipt: Receipt) -> None:
        if len(self._waiting) == WAITING_MAX:
            self._dropped.inc()
        self._waiting.append(receipt)
        self._not_empty.set()

    async def _send(self, session: Session, receipt: Receipt) -> None:
        try:
            await session.publish(
                receipt.topic, receipt.payload, qos=1, correlation_data=receipt.correlation_data
            )
        except BrokerUnavailable as error:
            self._dropped.inc()
            log.debug("A receipt could not be sent.", topic=receipt.topic, error=str(error))
        else:
            self._sent.inc()


def _payload(verdicts: Sequence[Verdict]) -> bytes:
    return msgspec.json.encode([_item(verdict) for verdict in verdicts])


def _item(verdict: Verdict) -> dict[str, Any]:
    item = {"event_id": verdict.event_id, "status": str(verdict.status)}
    return item if verdict.reason is None else item | {"reason": str(verdict.reason)}
