"""The MQTT side of a selftest: devices that resend each message until its receipt arrives."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from pydantic_core import to_json

from broker import topics
from broker.client.delivery import Delivery
from broker.client.session import Session, silent_logger
from broker.simulator.outbox import read_receipts
from broker.topics import TopicKind
from cli.selftest.ledger import Ledger
from cli.selftest.plan import Plan, Submission
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable, StartError
from schema.event import Door

CONNECT_S_MAX = 5.0  # After a broker rejects MQTT 5, the session uses 3.1.1 within 3 s.
RESEND_AFTER_S = 5.0  # Without a receipt.
POLL_S = 0.2
CLOSING_S_MAX = 2.0
BIRTH = b'{"state":"online","receipts":true}'
# The device never sends again, and its silence must not raise an alarm.
CLOSING_STATUS = to_json({"state": "asleep", "wake_in_s": 366 * 86_400})


@dataclass(slots=True, eq=False)
class UnansweredMessage:
    """A message without a receipt yet."""

    submission: Submission
    first_at: float = math.inf
    sent_at: float = -math.inf


class LedgerDevice:
    """A device and its connection. It leaves nothing on the broker: no will, no retained message."""

    def __init__(
        self, address: MqttAddress, device_id: str, submissions: list[Submission], ledger: Ledger
    ) -> None:
        self._ledger = ledger
        self._unanswered = [UnansweredMessage(each) for each in submissions]
        self._status = topics.device(device_id, TopicKind.STATUS)
        self._telemetry = topics.device(device_id, TopicKind.TELEMETRY)
        self._session = Session(
            address,
            device_id,
            subscriptions=(topics.receipts(device_id),),
            on_delivery=self._take_receipt,
            on_connected=self._publish_birth,
            session_expiry_s=0,
            logger=silent_logger(),
        )
        self._connected, self._receipt_arrived = asyncio.Event(), asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected until `stop` is set."""
        await self._session.run(stop)

    async def connect(self) -> None:
        """Raises StartError if the broker does not accept the device in time."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await self._connected.wait()
        except TimeoutError:
            raise StartError(f"The broker {self._session.trouble}.") from None

    async def send_all(self) -> None:
        """Return when every message has a receipt."""
        while self._unanswered:
            self._receipt_arrived.clear()
            with suppress(BrokerUnavailable):
                await self._send_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._receipt_arrived.wait()

    async def publish_closing_status(self) -> None:
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(CLOSING_S_MAX):
                await self._session.publish(self._status, CLOSING_STATUS)

    async def _publish_birth(self, _session_present: bool) -> None:  # noqa: FBT001  # For Session.
        """Publish the birth, and resend all: receipts may be lost with the previous connection."""
        await self._session.publish(self._status, BIRTH)
        for message in self._unanswered:
            message.sent_at = -math.inf
        self._connected.set()

    async def _send_due(self) -> None:
        """Publish a birth before repeats: an ingestor that started later missed the first one."""
        born = False
        for message in list(self._unanswered):
            now = monotonic()
            if message.sent_at + RESEND_AFTER_S > now or message not in self._unanswered:
                continue
            if message.first_at == math.inf:
                message.first_at = now
            else:
                self._ledger.resent += len(message.submission.entries)
                if not born:
                    await self._session.publish(self._status, BIRTH)
                    born = True
            message.sent_at = now
            await self._session.publish(self._telemetry, message.submission.payload)

    def _take_receipt(self, delivery: Delivery) -> None:
        """A receipt lists the event ids of one message in order; events may be sent twice."""
        self._session.settle((delivery,))
        verdicts = read_receipts(delivery.payload)
        event_ids = tuple(verdict["event_id"] for verdict in verdicts)
        for message in self._unanswered:
            if message.submission.event_ids == event_ids and message.first_at < math.inf:
                self._unanswered.remove(message)
                self._ledger.record(message.submission, verdicts, monotonic() - message.first_at)
                self._receipt_arrived.set()
                return


def ledger_devices(
    address_of: Callable[[str], MqttAddress], plan: Plan, ledger: Ledger
) -> list[LedgerDevice]:
    return [
        LedgerDevice(address_of(device_id), device_id, plan.over(Door.MQTT, device_id), ledger)
        for device_id in plan.device_ids
    ]
