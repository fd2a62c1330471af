"""The MQTT side of a selftest: devices that send each message again until its receipt."""

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from pydantic_core import to_json

from broker import topics
from broker.client.session import Delivery, Session, silent_logger
from broker.simulator.outbox import read_receipts
from broker.topics import TopicKind
from cli.selftest.ledger import Ledger
from cli.selftest.plan import Plan, Sending
from runtime.errors import BrokerUnavailable, StartError
from runtime.settings import MqttAddress
from schema.event import Door

CONNECT_S_MAX = 5.0  # A broker that hangs up on MQTT 5 is spoken to in 3.1.1 after at most 3 s.
PATIENCE_S = 5.0  # So long a message waits for its receipt before it is sent again.
TICK_S = 0.2
FAREWELL_S_MAX = 2.0
BIRTH = b'{"state":"online","receipts":true}'
# Nobody will hear from the device again, and nobody shall be alarmed by its silence.
FAREWELL = to_json({"state": "asleep", "wake_in_s": 366 * 86_400})


@dataclass(slots=True, eq=False)
class UnansweredMessage:
    """A message without a receipt."""

    sending: Sending
    first_at: float = math.inf
    sent_at: float = -math.inf


class LedgerDevice:
    """A device and its connection. Nothing of it stays on the broker: no will, no retained message."""

    def __init__(
        self, address: MqttAddress, device_id: str, sendings: list[Sending], ledger: Ledger
    ) -> None:
        self._ledger = ledger
        self._owed = [UnansweredMessage(sending) for sending in sendings]
        self._status = topics.device(device_id, TopicKind.STATUS)
        self._telemetry = topics.device(device_id, TopicKind.TELEMETRY)
        self._session = Session(
            address,
            device_id,
            subscriptions=(topics.receipts(device_id),),
            on_delivery=self._take_receipt,
            on_connected=self._greet,
            session_expiry_s=0,
            logger=silent_logger(),
        )
        self._greeted, self._heard = asyncio.Event(), asyncio.Event()

    async def run(self, leave: asyncio.Event) -> None:
        """Stay connected until `leave` is set."""
        await self._session.run(leave)

    async def connect(self) -> None:
        """Raises StartError when the broker does not let it in."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await self._greeted.wait()
        except TimeoutError:
            raise StartError(
                f"The broker cannot be reached ({self._session.last_error or 'no answer'}): start it, or"
                " name another one in MQTT_URL, else in MQTT_HOST and MQTT_PORT."
            ) from None

    async def send_all(self) -> None:
        """Return when every message has its receipt."""
        while self._owed:
            self._heard.clear()
            with suppress(BrokerUnavailable):
                await self._send_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._heard.wait()

    async def say_goodbye(self) -> None:
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(FAREWELL_S_MAX):
                await self._session.publish(self._status, FAREWELL)

    async def _greet(self, _session_present: bool) -> None:  # noqa: FBT001  # As Session calls it.
        """On a new connection nobody knows what became of the messages on the last."""
        await self._session.publish(self._status, BIRTH)
        for owed in self._owed:
            owed.sent_at = -math.inf
        self._greeted.set()

    async def _send_due(self) -> None:
        """A birth goes before repeats: an ingestor that came later did not hear the first."""
        born = False
        for owed in list(self._owed):
            now = monotonic()
            if owed.sent_at + PATIENCE_S > now or owed not in self._owed:
                continue
            if owed.first_at == math.inf:
                owed.first_at = now
            else:
                self._ledger.resent += len(owed.sending.entries)
                if not born:
                    await self._session.publish(self._status, BIRTH)
                    born = True
            owed.sent_at = now
            await self._session.publish(self._telemetry, owed.sending.payload)

    def _take_receipt(self, delivery: Delivery) -> None:
        """One for each message, with its event ids in order; the same events may travel twice."""
        self._session.settle((delivery,))
        answers = read_receipts(delivery.payload)
        event_ids = tuple(answer["event_id"] for answer in answers)
        for owed in self._owed:
            if owed.sending.event_ids == event_ids and owed.first_at < math.inf:
                self._owed.remove(owed)
                self._ledger.take(owed.sending, answers, monotonic() - owed.first_at)
                self._heard.set()
                return


def ledger_devices(address: MqttAddress, plan: Plan, ledger: Ledger) -> list[LedgerDevice]:
    return [
        LedgerDevice(address, device_id, plan.over(Door.MQTT, device_id), ledger)
        for device_id in plan.device_ids
    ]
