"""Load with a ledger: publishers, HTTP clients and devices with an outbox, each in a separate thread.

All of them create events until `stop`, and then only wait for the missing responses, resending what may have
been lost. Events without a response stay unknown in the ledger.

MqttLoad    devices without an outbox behind one connection: accepted = PUBACK
HttpLoad    single posts and batches: accepted = 200 with ok, stored or duplicate
OutboxLoad  devices that keep each event until its receipt: accepted = receipt
"""

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self

import httpx
import paho.mqtt.client as mqtt

from broker.simulator.outbox import EventOutbox, as_payload, read_receipts
from schema.event import Status
from tests.support.brokers.login import Login
from tests.support.ledger.ledger import Key
from tests.support.ledger.payload_mix import ComposedMessage, PayloadComposer

WINDOW_MAX = 500  # Messages without a PUBACK, or events without a receipt.
TICK_S = 0.01
RETRY_S = 0.2
RECONNECT_S_MAX = 1
POST_S_MAX = 8.0  # A 503 comes within 5 s.
ANSWER_S_MAX = 45.0  # After `stop`: the ingestor, the API or the broker may be starting again.
PAYLOAD_BYTES_MAX = 100_000

OpenClient = Callable[[], httpx.Client]


class Load(ABC):
    """A thread that creates `rate` messages per second until `stop`; see the top of this file."""

    def __init__(self, rate: float, composer: PayloadComposer) -> None:
        self.composer = composer
        self._rate = rate
        self._stopping, self._gave_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._fault: BaseException | None = None
        self.answered_s = ANSWER_S_MAX

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Create nothing new and wait at most `answered_s` for the responses. May be called twice."""
        self._stopping.set()
        self._thread.join(self.answered_s)
        self._gave_up.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def wait(self, seconds: float) -> None:
        """Let it run. Raises the exception of its thread, if there is one."""
        time.sleep(seconds)
        if self._fault is not None:
            raise self._fault

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether something has no response yet."""

    @abstractmethod
    def work(self, new: int) -> None:
        """Create up to `new` messages if there is room for them, read responses, resend."""

    def _begin(self) -> None: ...  # noqa: B027  # Most loads have nothing to prepare,

    def _end(self) -> None: ...  # noqa: B027  # and nothing to close.

    def _run(self) -> None:
        try:
            self._begin()
            self._loop()
        except BaseException as fault:  # noqa: BLE001  # Raised again by stop().
            self._fault = fault
        finally:
            self._end()

    def _loop(self) -> None:
        last, due = time.monotonic(), 0.0
        while not self._gave_up.is_set():
            now = time.monotonic()
            due = min(due + (now - last) * self._rate, max(1.0, self._rate))
            last = now
            if self._stopping.is_set():
                due = 0
                if not self.busy:
                    return
            self.work(int(due))
            due -= int(due)
            time.sleep(TICK_S)


class MqttLoad(Load):
    """QoS 1 through paho, which resends messages without a PUBACK on the next connection."""

    def __init__(self, port: int, rate: float, composer: PayloadComposer, *, login: Login) -> None:
        super().__init__(rate, composer)
        self._port = port
        self._unanswered: dict[int, ComposedMessage] = {}
        self._pubacks: deque[int] = deque()  # Read in our thread: paho holds a lock in its own.
        self._client = login.client(clean_session=False)
        self._client.max_inflight_messages_set(WINDOW_MAX)
        self._client.reconnect_delay_set(1, RECONNECT_S_MAX)
        self._client.on_publish = lambda _c, _u, mid, _r, _p: self._pubacks.append(mid)

    @property
    def busy(self) -> bool:
        return bool(self._unanswered)

    def work(self, new: int) -> None:
        for _ in range(min(new, WINDOW_MAX - len(self._unanswered))):
            message = self.composer.message()
            topic = f"devices/{message.device_id}/telemetry"
            self._unanswered[self._client.publish(topic, message.payload, qos=1).mid] = message
        while self._pubacks:
            message = self._unanswered.pop(self._pubacks.popleft())
            self.composer.ledger.accept(*message.keys)
            self.composer.poisons.accept(*message.poisons)

    def _begin(self) -> None:
        self._client.connect_async("127.0.0.1", self._port)
        self._client.loop_start()

    def _end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@dataclass(slots=True)
class Post:
    """A request that is posted again, with the same ids, until it is answered."""

    route: str
    body: Any
    keys: Sequence[Key]
    attempts: int = 0


class HttpLoad(Load):
    """One post at a time; after a transport error, a timeout, 429 or 503 it is retried later."""

    def __init__(
        self, open_client: OpenClient, rate: float, composer: PayloadComposer, *, random: Random
    ) -> None:
        super().__init__(rate, composer)
        self._open_client, self._random = open_client, random
        self._post: Post | None = None
        self._not_before = 0.0
        self.unanswered = 0  # Attempts that ended without a verdict.
        self._client = open_client()

    @property
    def busy(self) -> bool:
        return self._post is not None

    def work(self, new: int) -> None:
        for _ in range(max(new, self.busy)):
            if self._post is None:
                self._post = self._compose()
            if time.monotonic() < self._not_before:
                return
            self._try(self._post)

    def _compose(self) -> Post:
        batch = self._random.random() < 0.3
        pairs = [self.composer.event() for _ in range(self._random.randint(2, 10) if batch else 1)]
        bodies = [body | {"device_id": key[0]} for key, body in pairs]
        keys = [key for key, _ in pairs]
        return (
            Post("/v1/events/batch", bodies, keys) if batch else Post("/v1/events", bodies[0], keys)
        )

    def _try(self, post: Post) -> None:
        try:
            response = self._client.post(post.route, json=post.body, timeout=POST_S_MAX)
        except httpx.TransportError:
            return self._retry_later()
        if response.status_code in {429, 503}:
            return self._retry_later()
        assert response.status_code == httpx.codes.OK, (response.status_code, response.text)
        statuses = response.json()
        for item in statuses if isinstance(statuses, list) else [statuses]:
            assert item["status"] in {"ok", "stored", "duplicate"}, item
        self.composer.ledger.accept(*post.keys)
        self._post = None
        return None

    def _retry_later(self) -> None:
        self.unanswered += 1
        self._not_before = time.monotonic() + RETRY_S
        self._client.close()  # A broken connection is not used again.
        self._client = self._open_client()

    def _end(self) -> None:
        self._client.close()


@dataclass(slots=True)
class OutboxDevice:
    """One client with the device outbox of the product's simulator."""

    client: mqtt.Client
    outbox: EventOutbox = field(default_factory=EventOutbox)
    connected: threading.Event = field(default_factory=threading.Event)
    receipts: deque[bytes] = field(default_factory=deque)


class OutboxLoad(Load):
    """Devices o0, o1 … with a connection each. A new one first sends the birth and the whole outbox."""

    def __init__(
        self, port: int, rate: float, composer: PayloadComposer, *, devices: Sequence[Login]
    ) -> None:
        super().__init__(rate, composer)
        self._port = port
        self._devices = [self._device(login) for login in devices]
        self._next = 0

    @property
    def busy(self) -> bool:
        return any(len(device.outbox) for device in self._devices)

    @property
    def resent(self) -> int:
        return sum(device.outbox.counts.resent for device in self._devices)

    def work(self, new: int) -> None:
        for _ in range(new):
            self._next = (self._next + 1) % len(self._devices)
            device = self._devices[self._next]
            if len(device.outbox) < WINDOW_MAX:
                key, body = self.composer.event(f"o{self._next}")
                device.outbox.add(key[1], json.dumps(body).encode())
        for n, device in enumerate(self._devices):
            self._serve(device, f"{self.composer.ledger.prefix}o{n}")

    def _serve(self, device: OutboxDevice, device_id: str) -> None:
        while device.receipts:
            for receipt in read_receipts(device.receipts.popleft()):
                device.outbox.settle(receipt)
                if receipt["status"] is not Status.REJECTED and receipt["event_id"] is not None:
                    self.composer.ledger.accept((device_id, receipt["event_id"]))
        if device.connected.is_set():
            device.connected.clear()
            device.outbox.make_all_due()
        if not device.client.is_connected():
            return
        # Retries at most 2 s apart: a test must not wait as long as a real device.
        while due := device.outbox.take_due(
            time.monotonic(), bytes_max=PAYLOAD_BYTES_MAX, retry_s_max=2.0
        ):
            device.client.publish(f"devices/{device_id}/telemetry", as_payload(due), qos=1)

    def _device(self, login: Login) -> OutboxDevice:
        client, device_id = login.client(clean_session=False), login.client_id
        client.reconnect_delay_set(1, RECONNECT_S_MAX)
        device = OutboxDevice(client)

        def connected(client: mqtt.Client, *_: Any) -> None:
            client.subscribe(f"devices/{device_id}/receipts", qos=1)
            birth = b'{"state":"online","receipts":true}'
            client.publish(f"devices/{device_id}/status", birth, qos=1, retain=True)
            device.connected.set()

        client.on_connect = connected
        client.on_message = lambda _c, _u, message: device.receipts.append(bytes(message.payload))
        return device

    def _begin(self) -> None:
        for device in self._devices:
            device.client.connect_async("127.0.0.1", self._port)
            device.client.loop_start()

    def _end(self) -> None:
        for device in self._devices:
            device.client.disconnect()
            device.client.loop_stop()
