"""The path of a message in the embedded broker: rights, retained messages, subscriptions, delivery."""

from collections.abc import Callable, Iterable

from broker.embedded.connection import ClientConnection
from broker.embedded.limits import LimitLog, Pace
from broker.embedded.retained import RetainedMessages, compile_filter
from broker.embedded.session_queue import QueuedMessage
from broker.embedded.subscriptions import Subscriptions

REFUSED = 0x80  # The return code in SUBACK.
SHARE = "$share/"


class Router:
    """`connection_of` finds the latest connection of a session by its client id."""

    def __init__(self, connection_of: Callable[[str], ClientConnection | None]) -> None:
        self._connection_of = connection_of
        self._subscriptions = Subscriptions()
        self._retained = RetainedMessages()
        self._limit_log, self._pace = LimitLog(), Pace()

    async def take_turn(self) -> None:
        """Before each packet, of whatever type: one read may bring 30,000 small ones."""
        await self._pace.step()

    async def publish(self, sender: ClientConnection, message: QueuedMessage, qos: int) -> None:
        """Retain and deliver, or drop: MQTT 3.1.1 cannot tell the sender, who gets its PUBACK anyway."""
        if message.topic.startswith("$"):  # Clients must not use these topics [MQTT-4.7.2-1].
            return
        client_id = sender.session.client_id
        if not sender.login.rights.may_publish(message.topic):
            self._limit_log.report(
                "A client's message was dropped: it may not publish to this topic.",
                client_id=client_id,
                topic=message.topic,
            )
            return
        # No other task runs between these two: a new subscriber gets either the live or the retained one.
        sessions = self._recipients(message.topic)
        self._retain(client_id, message, qos, ours=sender.login.ours)
        await self._deliver(sessions, message._replace(retain=False), qos)  # [MQTT-3.3.1-9]

    def _recipients(self, topic: str) -> list[tuple[ClientConnection, int]]:
        found = self._subscriptions.recipients(topic).items()
        connections = [(self._connection_of(client_id), granted) for client_id, granted in found]
        return [(each, granted) for each, granted in connections if each is not None]

    async def _deliver(
        self, recipients: list[tuple[ClientConnection, int]], message: QueuedMessage, qos: int
    ) -> None:
        """A session that ended meanwhile gets nothing; one that has a new connection gets it there."""
        for recipient, granted in recipients:
            latest = self._connection_of(recipient.session.client_id)
            if latest is not None and latest.session is recipient.session:
                latest.deliver(message, min(qos, granted))
                await self._pace.step(len(message.payload))

    def _retain(self, client_id: str, message: QueuedMessage, qos: int, *, ours: bool) -> None:
        topic, payload, retain = message
        if retain and not self._retained.set(topic, payload, qos, ours=ours):
            self._limit_log.report(
                "A message was not retained: the embedded broker is at its limit of retained messages.",
                client_id=client_id,
                topic=topic,
            )

    async def subscribe(
        self, client: ClientConnection, wanted: Iterable[tuple[str, int]]
    ) -> list[int]:
        """The granted QoS of each filter, at most 1, or REFUSED."""
        granted = []
        for each in wanted:
            granted.append(self._subscribe(client, *each))
            await self._pace.step()
        return granted

    def _subscribe(self, client: ClientConnection, topic_filter: str, qos: int) -> int:
        """Shared subscriptions are refused: there is no MQTT 5 here."""
        client_id = client.session.client_id
        if topic_filter.startswith(SHARE):
            return REFUSED
        if not client.login.rights.may_subscribe(topic_filter):
            self._limit_log.report(
                "A subscription was refused: this client may not read all topics of the filter.",
                client_id=client_id,
                topic=topic_filter,
            )
            return REFUSED
        granted = min(qos, 1)
        if self._subscriptions.add(client_id, topic_filter, granted, ours=client.login.ours):
            return granted
        self._limit_log.report(
            "A subscription was refused: this client, or all together, have as many filters as the embedded"
            " broker allows.",
            client_id=client_id,
            topic=topic_filter,
        )
        return REFUSED

    async def send_retained(
        self, client: ClientConnection, topic_filter: str, granted: int
    ) -> None:
        if topic_filter.startswith("$"):
            return
        matches = compile_filter(topic_filter).fullmatch
        for topic in self._retained.topics(topic_filter):
            await self._pace.step()
            if matches(topic) and (retained := self._retained.get(topic)):
                message = QueuedMessage(topic, retained.payload, retain=True)
                client.deliver(message, min(retained.qos, granted))
                await self._pace.step(len(retained.payload))

    async def unsubscribe(self, client_id: str, filters: Iterable[str]) -> None:
        for topic_filter in filters:
            self._subscriptions.remove(client_id, topic_filter)
            await self._pace.step()

    def forget(self, client_id: str) -> None:
        """Its session has ended."""
        self._subscriptions.remove_all(client_id)
