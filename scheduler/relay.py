"""The outbox relay publishes committed alerts and presence over MQTT: retained, at least once, in feed order.

One scheduler at a time publishes: the holder of the lease. It saves its position in the feed to the database
after each publication, so a crash skips nothing and may only repeat what was published but not saved.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from broker import topics
from broker.client.session import Session
from runtime.client_ids import relay_client_id
from runtime.errors import BrokerUnavailable
from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler.home_assistant import DISCOVERY_S, Discovery
from scheduler.lease import work_as_holder
from schema.alert import AlertState
from schema.database import Connection
from schema.feed import NOTIFICATION_DAYS_KEPT, FeedItem, feed_item, follow_feed
from schema.locks import RELAY
from schema.presence import PresenceState
from schema.queries import load_queries

LEASE_CHECK_S = 2.0
READER = "mqtt"
PAGE_DEVICES = 500

queries = load_queries("scheduler", "relay.sql", {"days_kept": NOTIFICATION_DAYS_KEPT})


class OutboxRelay:
    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._dsn, self._name = settings.dsn, f"{settings.instance} delivery"
        self._address, self._client_id = settings.mqtt, relay_client_id(settings.instance)
        self._reader = f"{READER} {settings.instance}"
        self._broker_state_lost = asyncio.Event()
        self._discovery = Discovery(settings) if settings.ha_discovery else None
        # Republishing never puts an older message after a newer one.
        self._publishing = asyncio.Lock()

    async def run(self) -> None:
        """Publish until cancelled, whenever this scheduler holds the lease."""
        await work_as_holder(self._dsn, self._name, RELAY, self._reader, self._relay_as_holder)

    async def _relay_as_holder(self, connection: Connection) -> None:
        done = asyncio.Event()
        self._broker_state_lost.set()  # Unknown at the start.
        session = Session(self._address, self._client_id, on_connected=self._connected)
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run(done))
            group.create_task(self._keep_retained(connection, session))
            if self._discovery is not None:
                group.create_task(self._announce(self._discovery, connection, session))
            try:
                await self._relay(connection, session)
            finally:
                done.set()

    async def _connected(self, session_present: bool) -> None:  # noqa: FBT001  # The session's signature.
        self._metrics.connections.labels(self._client_id).inc()
        if not session_present:
            self._metrics.new_sessions.labels(self._client_id).inc()
            self._broker_state_lost.set()

    async def _relay(self, connection: Connection, session: Session) -> None:
        async with self._publishing:
            after = await connection.fetchval(queries.feed_position, self._reader)
        async for position, items in follow_feed(self._dsn, f"{self._name} feed", after):
            async with self._publishing:
                await self._publish_items(session, items)
                self._metrics.published.inc(len(items))
                await connection.execute(queries.save_feed_position, self._reader, position)

    async def _keep_retained(self, connection: Connection, session: Session) -> None:
        """Republish when the broker lost its state; fail when the connection that holds the lease is lost."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_CHECK_S):
                    await self._broker_state_lost.wait()
            async with self._publishing:
                if self._broker_state_lost.is_set():
                    await self._republish(connection, session)
                else:
                    await connection.execute("select 1")

    async def _republish(self, connection: Connection, session: Session) -> None:
        """Publish every retained message again, from the tables."""
        self._broker_state_lost.clear()
        if self._discovery is not None:
            self._discovery.forget()
        firing = [feed_item(row) for row in await connection.fetch(queries.firing_alerts)]
        await self._publish_items(session, firing)
        async for page in self._presence_pages(connection):
            await self._publish_items(session, page)

    async def _announce(
        self, discovery: Discovery, connection: Connection, session: Session
    ) -> None:
        """Announce to Home Assistant what is new about devices, published as soon as it is read."""
        while True:
            after: str | None = ""
            while after is not None:
                async with self._publishing:
                    changed, after = await discovery.page(connection, after)
                    found = [
                        (discovery.topic(name), payload, True) for name, payload in changed.items()
                    ]
                    await self._publish(session, found)
                    discovery.remember(changed)
            await asyncio.sleep(DISCOVERY_S)

    async def _presence_pages(self, connection: Connection) -> AsyncIterator[list[FeedItem]]:
        after: str | None = ""
        while after is not None:
            rows = await connection.fetch(queries.latest_presence, after, PAGE_DEVICES)
            after = await connection.fetchval(queries.last_device_of_page, after, PAGE_DEVICES)
            yield [feed_item(row) for row in rows]

    async def _publish_items(self, session: Session, items: Sequence[FeedItem]) -> None:
        found = [message for item in items for message in messages(item)]
        forgotten = [item.device_id for item in items if _is_forgotten(item)]
        if self._discovery is not None:
            self._discovery.forget(forgotten)
            found += [(self._discovery.topic(name), b"", True) for name in forgotten]
        await self._publish(session, found)

    async def _publish(self, session: Session, found: Sequence[tuple[str, bytes, bool]]) -> None:
        """Publish all messages in order, from the first one again if the broker becomes unavailable."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for topic, payload, retain in found:
                        group.create_task(session.publish(topic, payload, qos=1, retain=retain))
            except* BrokerUnavailable:
                await asyncio.sleep(0.2)
            else:
                return


async def prune_outbox(connection: Connection) -> None:
    """Delete notifications older than NOTIFICATION_DAYS_KEPT, except those that `_republish` needs.

    Silences that ended before go, too.
    """
    await connection.execute(queries.prune_outbox)
    await connection.execute(queries.prune_feed)
    await connection.execute(queries.prune_silences)


def _is_forgotten(item: FeedItem) -> bool:
    return item.kind == "presence" and item.state == PresenceState.NEVER_SEEN


def messages(item: FeedItem) -> list[tuple[str, bytes, bool]]:
    """(topic, payload, retain) of a notification. A late alert does not replace the retained one.

    A resolved alert and a forgotten device clear what was retained. An acknowledgement is not published.
    """
    if item.state == AlertState.ACKNOWLEDGED:
        return []
    if item.kind == "presence":
        topic, ended = topics.presence(item.device_id), _is_forgotten(item)
    else:
        topic = topics.alert(item.device_id, item.rule_id or "")
        ended = item.state == AlertState.RESOLVED
    if ended:
        return [(topic, item.body, False), (topic, b"", True)]
    return [(topic, item.body, not item.late)]
