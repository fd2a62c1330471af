"""One MQTT session: it receives messages, acknowledges those that are settled, and publishes."""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import aiomqtt
import structlog
from aiomqtt import ProtocolVersion
from structlog.typing import FilteringBoundLogger

from broker.client.connection import Connection
from broker.client.delivery import Delivery
from broker.client.options import ClientIdentity, tls_context
from broker.client.version_choice import VersionChoice
from broker.wire import SESSION_EXPIRY_S
from runtime.addresses import MqttAddress
from runtime.errors import BrokerUnavailable

KEEPALIVE_S = 15  # paho closes a silent connection after two of them, at the latest after 30 s.
RETRY_S_MIN, RETRY_S_MAX = 1.0, 15.0
DOUBLINGS_MAX = 4  # After so many failures the pause no longer grows.
# Unacknowledged messages, as in mosquitto.conf: more than two batches (docs/failure-modes.md, 4).
RECEIVE_MAXIMUM = 5000
UNSUPPORTED_VERSION = 0x84
CREDENTIALS_REFUSED = {0x85, 0x86, 0x87, 0x8A, 0x8C}  # A retry does not help.

log: FilteringBoundLogger = structlog.get_logger()


class Session:
    """A client id whose state the broker keeps, connected while `run` runs.

    `on_delivery` is called for each message in the event loop, with no task or queue in between.
    `before_connect` is awaited before each connection and may delay it. `on_connected` is awaited
    once all is subscribed; it gets whether the broker still had the session (if not, the messages sent
    meanwhile are lost) and may publish. The broker may refuse `optional_subscriptions`.
    The broker publishes `will`, a topic and a payload, when the connection ends without DISCONNECT.
    With `session_expiry_s` 0 the session ends with its connection.
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
        before_connect: Callable[[], Awaitable[None]] | None = None,
        logger: FilteringBoundLogger = log,
    ) -> None:
        self._identity = ClientIdentity(
            address,
            client_id,
            tls_context(address),
            keepalive_s,
            receive_maximum,
            will,
            session_expiry_s,
        )
        self.last_error: str | None = None  # Why the latest connection failed or ended.
        self.trouble = describe_trouble(None)  # The same with what to do, as the end of a sentence.
        self._subscriptions, self._optional_subscriptions = subscriptions, optional_subscriptions
        self._before_connect, self._on_connected = before_connect, on_connected
        self._on_delivery = on_delivery
        self._version = VersionChoice(only_v311=address.embedded)
        self._log = logger.bind(broker=str(address), client_id=client_id)
        self._connection: Connection | None = None
        self._generation = self._failures = 0
        self._subscribed = self._connected_before = False

    @property
    def connected(self) -> bool:
        """Connected and subscribed, on this connection or an earlier one of the session."""
        return self._subscribed

    @property
    def generation(self) -> int:
        """The number of the present connection, as its deliveries have it."""
        return self._generation

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected, retrying indefinitely, until `stop` is set; then send DISCONNECT.

        Raises StartError when a shared subscription is requested and the broker has none.
        """
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(self._stay_connected(stop))
            await stop.wait()
            connecting.cancel()

    def settle(self, deliveries: Iterable[Delivery]) -> None:
        """Mark deliveries as done; each is acknowledged once all before it are done.

        A delivery of an earlier connection is not acknowledged: its packet id may now mean another
        message, and the broker redelivers it.
        """
        for delivery in deliveries:
            delivery.done = True
        if self._connection is not None:
            self._connection.acknowledge()

    def reconnect(self) -> None:
        """Abort the present connection; the next one subscribes again."""
        if self._connection is not None:
            self._connection.abort()

    async def unsubscribe(self, topic_filter: str) -> None:
        """Return after the UNSUBACK; messages that the broker has already queued still arrive.

        Raises BrokerUnavailable while there is no connection, and MqttError, which `on_connected` must
        not catch.
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

        Raises BrokerUnavailable while there is no connection, when no PUBACK comes, and when the PUBACK
        has the reason code of a refusal (only in MQTT 5). The message may still have arrived.
        """
        if self._connection is None or not self._subscribed:
            raise BrokerUnavailable("There is no connection to the broker: publish again later.")
        await self._connection.publish(
            topic, payload, qos=qos, retain=retain, correlation_data=correlation_data
        )

    async def _stay_connected(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            error: Exception | None = None
            if self._before_connect is not None:
                await self._before_connect()
            self._generation += 1
            connection = Connection(
                self._identity, self._version.next, self._generation, self._on_delivery
            )
            try:
                await self._run_connection(connection, stop)
            except* (aiomqtt.MqttError, BrokerUnavailable) as group:
                error = group.exceptions[0]
            finally:
                self._release(connection)
            if error is not None:
                await self._pause_after(error, connection)

    async def _run_connection(self, connection: Connection, stop: asyncio.Event) -> None:
        """Connect and subscribe. A lost connection ends it with an MqttError."""
        self._connection = connection
        async with connection.client:
            # Python 3.11 loses a cancellation that comes together with CONNACK (asyncio.wait_for in aiomqtt).
            if stop.is_set() or not self._version.accepted():
                return
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.until_lost())
                tasks.create_task(self._subscribe_all(connection))

    async def _subscribe_all(self, connection: Connection) -> None:
        """A broker that has the session delivers its backlog at once and answers only after that."""
        self._subscribed = connection.session_present
        for topic_filter in self._subscriptions:
            await connection.subscribe(topic_filter)
        for topic_filter in self._optional_subscriptions:
            try:
                await connection.subscribe(topic_filter)
            except BrokerUnavailable as error:
                self._log.info("The broker refused an optional subscription.", error=str(error))
        self._subscribed, self._failures = True, 0
        present = connection.session_present
        self._log.info(
            "Connected to the broker.", version=connection.version.name, session_present=present
        )
        if self._connected_before and self._subscriptions and not present:
            self._log.error("The broker forgot our session: messages since then may be lost.")
        self._connected_before = True
        if self._on_connected is not None:
            await self._on_connected(present)

    def _release(self, connection: Connection) -> None:
        self._subscribed, self._connection = False, None
        if connection.no_connack:
            self._version.silent()
        connection.close()

    async def _pause_after(self, error: Exception, connection: Connection) -> None:
        code = None if connection.connack is None else connection.connack.value
        if code == UNSUPPORTED_VERSION and connection.version is ProtocolVersion.V5:
            self._version.refused()
            return
        refused = code in CREDENTIALS_REFUSED
        pause_s = _pause_s(DOUBLINGS_MAX if refused else self._failures)
        self._failures += 1
        self.last_error = str(error.__cause__ or error)
        self.trouble = describe_trouble(error, code)
        fields: dict[str, object] = {"reason": self.last_error, "retry_in_s": round(pause_s, 1)}
        if refused:
            self._log.error("The broker refused the connection.", **fields)
        elif code == 0:
            if (
                connection.lost_topics
            ):  # Mosquitto 2.0.11 cuts off who publishes what its ACL denies.
                fields["unacknowledged_topics"] = connection.lost_topics
            self._log.warning("The connection to the broker was lost.", **fields)
        else:
            self._log.warning("The broker cannot be reached.", **fields)
        await asyncio.sleep(pause_s)


def describe_trouble(error: Exception | None, code: int | None = None) -> str:
    """Why there is no connection, and what to do, to follow the words "The broker".

    `code` is the reason code of CONNACK, None without one.
    """
    reason = "no answer" if error is None else error.__cause__ or error
    if any(isinstance(each, ssl.SSLError) for each in _causes(error)):
        return (
            f"does not pass the checks of TLS ({reason}): check MQTT_CA_FILE, and host name and port in"
            " MQTT_URL"
        )
    if code in CREDENTIALS_REFUSED:
        return f"refuses the login ({reason}): check user and password in MQTT_URL"
    if code == 0:
        return (
            f"ended the connection ({reason}): look into its log, and at the rights of this client"
        )
    return (
        f"cannot be reached ({reason}): start it, or name another one in MQTT_URL, else in MQTT_HOST and"
        " MQTT_PORT"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from; aiomqtt hides the error of the socket."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def end_session(address: MqttAddress, client_id: str) -> None:
    """Make the broker delete a session and its queue; retry until it has."""
    ended = asyncio.Event()

    async def connected(_: bool) -> None:  # noqa: FBT001  # The session's signature.
        ended.set()

    # A clean start deletes the old session, an expiry of 0 this one.
    await Session(address, client_id, on_connected=connected, session_expiry_s=0).run(ended)


def silent_logger() -> FilteringBoundLogger:
    """A logger for simulated clients, whose connection errors do not belong in the log."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(), wrapper_class=silent
    )
    return logger


def _pause_s(failures: int) -> float:
    """1 s doubling to 15 s, less up to half at random, so that many clients do not return together."""
    backoff_s = min(RETRY_S_MAX, RETRY_S_MIN * (1 << min(failures, DOUBLINGS_MAX)))
    return max(RETRY_S_MIN, backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  # No secret.
