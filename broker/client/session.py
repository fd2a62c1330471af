"""One MQTT session: messages in, acknowledged when the caller says so; messages out, awaited."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence

import aiomqtt
import structlog
from aiomqtt import ProtocolVersion

from broker.client.connection import Connection
from broker.client.delivery import Delivery
from broker.client.options import SESSION_EXPIRY_S, ClientIdentity
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable, StartError

__all__ = ["Delivery", "Session", "end_session"]

KEEPALIVE_S = 15  # paho gives a silent link up after two of them: 30 s at the latest.
RETRY_S_MIN, RETRY_S_MAX = 1.0, 15.0
SLOWEST = 4  # From so many failures on the pause stays the longest.
RECEIVE_MAXIMUM = 5000  # Unacknowledged messages, as in mosquitto.conf: more than two batches (F4).
UNSUPPORTED_VERSION = 0x84
CREDENTIALS_REFUSED = {0x85, 0x86, 0x87, 0x8A, 0x8C}  # Only a human can help.

log = structlog.get_logger()


class Session:
    """A client id that the broker remembers, kept connected for as long as `run` runs.

    `on_delivery` is called for each message as it comes in, in the event loop, with no task or queue
    in between. `on_connected` is awaited after each subscribing and told whether the broker still
    knew the session; if not, what was sent while we were away is gone. It may publish.
    What it may refuse to deliver without harm are `optional_subscriptions`.
    The broker publishes `will`, a topic and a payload, when the connection ends without DISCONNECT.
    Before each connection `permit` is awaited: there may be reasons not to connect now.
    With `session_expiry_s` 0 it forgets the session whenever the connection ends.
    """

    def __init__(
        self,
        address: MqttAddress,
        client_id: str,
        *,
        subscriptions: Sequence[str] = (),
        optional_subscriptions: Sequence[str] = (),
        on_delivery: Callable[[Delivery], None] = lambda _: None,
        on_connected: Callable[[bool], Awaitable[None]] | None = None,
        receive_maximum: int = RECEIVE_MAXIMUM,
        keepalive_s: int = KEEPALIVE_S,
        will: tuple[str, bytes] | None = None,
        session_expiry_s: int = SESSION_EXPIRY_S,
        permit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._identity = ClientIdentity(
            address,
            client_id,
            _tls_context(address),
            keepalive_s,
            receive_maximum,
            will,
            session_expiry_s,
        )
        self._permit = permit
        self.trouble: str | None = None  # Why the newest connection failed or ended.
        self._subscriptions, self._wishes, self._on_delivery = (
            subscriptions,
            optional_subscriptions,
            on_delivery,
        )
        self._on_connected = on_connected
        self._version = VersionChoice(only_v311=address.embedded)
        self._log = log.bind(broker=str(address), client_id=client_id)
        self._connection: Connection | None = None
        self._generation = self._failures = 0
        self._subscribed = self._known = False

    @property
    def connected(self) -> bool:
        """Connected and subscribed, now or before."""
        return self._subscribed

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, stay, connect again for ever; leave with DISCONNECT when `stop` is set.

        Raises StartError when the broker has no shared subscriptions and one is asked for.
        """
        async with asyncio.TaskGroup() as tasks:
            staying = tasks.create_task(self._stay_connected(stop))
            await stop.wait()
            staying.cancel()

    def settle(self, deliveries: Iterable[Delivery]) -> None:
        """These are stored: acknowledge every message that has nothing unfinished before it.

        A delivery of an earlier connection changes nothing: its packet id may mean another message
        by now, and the broker sends it again.
        """
        for delivery in deliveries:
            delivery.done = True
        if self._connection is not None:
            self._connection.acknowledge()

    def reconnect(self) -> None:
        """Give the present connection up: the next one begins with a subscription that is new."""
        if self._connection is not None:
            self._connection.abort()

    async def unsubscribe(self, topic_filter: str) -> None:
        """Return after the UNSUBACK; what the broker holds for us already comes all the same.

        Raises BrokerUnavailable while there is no connection; MqttError is for `on_connected` to pass on.
        """
        if self._connection is None:
            raise BrokerUnavailable("There is no connection to the broker.")
        await self._connection.unsubscribe(topic_filter)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        correlation_data: bytes | None = None,
    ) -> None:
        """Return after the PUBACK; with QoS 0 at once.

        Raises BrokerUnavailable while there is no connection, when no PUBACK comes, and when the
        broker refuses and says so, which only MQTT 5 can. The message may have arrived all the same.
        """
        if self._connection is None or not self._subscribed:
            raise BrokerUnavailable("There is no connection to the broker: publish again later.")
        await self._connection.publish(
            topic, payload, qos=qos, retain=retain, correlation_data=correlation_data
        )

    async def _stay_connected(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            fault: Exception | None = None
            if self._permit is not None:
                await self._permit()
            self._generation += 1
            connection = Connection(
                self._identity, self._version.next, self._generation, self._on_delivery
            )
            try:
                await self._hold(connection)
            except* (aiomqtt.MqttError, BrokerUnavailable) as group:
                fault = group.exceptions[0]
            finally:
                self._let_go(connection)
            if fault is not None:
                await self._pause_after(fault, connection)

    async def _hold(self, connection: Connection) -> None:
        """Connect and subscribe. The end is the MqttError of a lost connection."""
        self._connection = connection
        async with connection.client:
            if not self._version.answered():
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.until_lost())
                tasks.create_task(self._begin(connection))

    async def _begin(self, connection: Connection) -> None:
        """A broker that knows the session delivers already, and its answers come behind its backlog."""
        self._subscribed = connection.session_present
        for topic_filter in self._subscriptions:
            await connection.subscribe(topic_filter)
        for topic_filter in self._wishes:
            try:
                await connection.subscribe(topic_filter)
            except BrokerUnavailable as error:
                self._log.info("The broker refuses a wish of ours.", error=str(error))
        self._subscribed, self._failures = True, 0
        present = connection.session_present
        self._log.info(
            "Connected to the broker.", version=connection.version.name, session_present=present
        )
        if self._known and self._subscriptions and not present:
            self._log.error("The broker forgot our session: messages since then may be lost.")
        self._known = True
        if self._on_connected is not None:
            await self._on_connected(present)

    def _let_go(self, connection: Connection) -> None:
        self._subscribed, self._connection = False, None
        if connection.unanswered:
            self._version.silent()
        connection.close()

    async def _pause_after(self, fault: Exception, connection: Connection) -> None:
        code = None if connection.connack is None else connection.connack.value
        if code == UNSUPPORTED_VERSION and connection.version is ProtocolVersion.V5:
            self._version.refused()
            return
        refused = code in CREDENTIALS_REFUSED
        pause_s = _pause_s(SLOWEST if refused else self._failures)
        self._failures += 1
        self.trouble = str(fault.__cause__ or fault)
        facts = {"reason": self.trouble, "retry_in_s": round(pause_s, 1)}
        if refused:
            self._log.error("The broker refuses us.", **facts)
        elif code == 0:
            self._log.warning("The connection to the broker was lost.", **facts)
        else:
            self._log.warning("The broker cannot be reached.", **facts)
        await asyncio.sleep(pause_s)


async def end_session(address: MqttAddress, client_id: str) -> None:
    """Let the broker forget a session and what it holds; tries until the broker has."""
    ended = asyncio.Event()

    async def connected(_: bool) -> None:  # noqa: FBT001  # The session's signature.
        ended.set()

    # A clean start ends the former session, an expiry of 0 this one.
    await Session(address, client_id, on_connected=connected, session_expiry_s=0).run(ended)


class VersionChoice:
    """Which MQTT version to speak next: 5, or 3.1.1 to a broker that knows no other.

    A broker that refuses 5 in its CONNACK gets 3.1.1 from then on. One that hangs up or keeps silent
    may be too old, or only in trouble:

    1. silence on 5: try 3.1.1;
    2. an answer to that: try 5 once more; silence: begin again;
    3. silence on 5 again: 3.1.1 from then on.
    """

    def __init__(self, *, only_v311: bool = False) -> None:
        self._settled = ProtocolVersion.V311 if only_v311 else None
        self._silent_on_5 = self._answered_on_311 = False

    @property
    def next(self) -> ProtocolVersion:
        if self._settled is not None:
            return self._settled
        doubtful = self._silent_on_5 and not self._answered_on_311
        return ProtocolVersion.V311 if doubtful else ProtocolVersion.V5

    def answered(self) -> bool:
        """CONNACK said yes. False: leave again, to try 5 once more."""
        if self._settled is None and self.next is ProtocolVersion.V311:
            self._answered_on_311 = True
            return False
        self._settled = self.next
        return True

    def silent(self) -> None:
        """No CONNACK came."""
        if self._settled is None and self._answered_on_311:
            self._settled = ProtocolVersion.V311
        self._silent_on_5 = not self._silent_on_5

    def refused(self) -> None:
        """CONNACK said that it does not know 5."""
        self._settled = ProtocolVersion.V311


def _pause_s(failures: int) -> float:
    """1 s doubling to 15 s, up to half of it taken off at random: many clients do not return at once."""
    longest = min(RETRY_S_MAX, RETRY_S_MIN * (1 << min(failures, SLOWEST)))
    return max(RETRY_S_MIN, longest * random.uniform(0.5, 1.0))  # noqa: S311  # No secret.


def _tls_context(address: MqttAddress) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        if address.cert_file is not None:
            context.load_cert_chain(address.cert_file, address.key_file)
    except OSError as error:  # Also ssl.SSLError.
        raise StartError(
            f"The certificates for MQTT cannot be used ({error}): "
            "check MQTT_CA_FILE, MQTT_CERT_FILE and MQTT_KEY_FILE."
        ) from error
    return context
