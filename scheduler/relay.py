"""Committed alerts and presence on their MQTT topics: retained state, at least once, in feed order.

One scheduler at a time delivers, the one that holds the lease. It remembers in the database how far it
came, so that nothing is left out after a crash; what was told but not remembered is told again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import structlog

from broker import topics
from broker.client.session import Session
from runtime.errors import BrokerUnavailable
from runtime.metrics import Metrics
from runtime.settings import Settings
from schema.alert import AlertState
from schema.database import DATABASE_ERRORS, WRITER_LIMITS, Connection, connect
from schema.feed import FeedItem, feed_item, follow_feed
from schema.locks import RELAY, take_lease
from schema.presence import TIMES
from schema.queries import load_queries

LEASE_RETRY_S = 2.0
LEASE_CHECK_S = 2.0
READER = "mqtt"
PAGE_DEVICES = 500

queries = load_queries("scheduler", constants=TIMES)
log = structlog.get_logger()


class OutboxRelay:
    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._dsn, self._name = settings.dsn, f"{settings.instance} delivery"
        self._address, self._client_id = settings.mqtt, f"{settings.instance}-delivery"
        self._reader = f"{READER} {settings.instance}"
        self._memory_lost = asyncio.Event()
        self._turn = asyncio.Lock()  # What is put back in place is never older than what was told.

    async def run(self) -> None:
        """Deliver until cancelled, whenever the lease is ours."""
        while True:
            connection: Connection | None = None
            try:
                connection = await connect(self._dsn, self._name, WRITER_LIMITS)
                if await take_lease(connection, RELAY, self._reader):
                    await self._deliver(connection)
            except* DATABASE_ERRORS as group:
                log.warning("Delivery over MQTT waits.", error=repr(group.exceptions[0]))
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(LEASE_RETRY_S)

    async def _deliver(self, connection: Connection) -> None:
        left = asyncio.Event()
        self._memory_lost.set()  # At start nobody knows what the broker still holds.
        session = Session(self._address, self._client_id, on_connected=self._connected)
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run(left))
            group.create_task(self._keep(connection, session))
            try:
                await self._pump(connection, session)
            finally:
                left.set()

    async def _connected(self, session_present: bool) -> None:  # noqa: FBT001  # The session's signature.
        self._metrics.connections.labels(self._client_id).inc()
        if not session_present:
            self._metrics.new_sessions.labels(self._client_id).inc()
            self._memory_lost.set()

    async def _pump(self, connection: Connection, session: Session) -> None:
        async with self._turn:
            after = await connection.fetchval(queries.feed_position, self._reader)
        async for place, items in follow_feed(self._dsn, f"{self._name} feed", after):
            async with self._turn:
                await self._publish(session, items)
                self._metrics.published.inc(len(items))
                await connection.execute(queries.save_feed_position, self._reader, place)

    async def _keep(self, connection: Connection, session: Session) -> None:
        """Keep what the broker retains, and notice when the lease is lost with its connection."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_CHECK_S):
                    await self._memory_lost.wait()
            async with self._turn:
                if self._memory_lost.is_set():
                    await self._republish(connection, session)
                else:
                    await connection.execute("select 1")

    async def _republish(self, connection: Connection, session: Session) -> None:
        """Put every retained message in its place again, from the tables."""
        self._memory_lost.clear()
        firing = [feed_item(row) for row in await connection.fetch(queries.firing_alerts)]
        await self._publish(session, firing)
        async for page in self._presence_pages(connection):
            await self._publish(session, page)

    async def _presence_pages(self, connection: Connection) -> AsyncIterator[list[FeedItem]]:
        after: str | None = ""
        while after is not None:
            rows = await connection.fetch(queries.latest_presence, after, PAGE_DEVICES)
            after = await connection.fetchval(queries.last_device_of_page, after, PAGE_DEVICES)
            yield [feed_item(row) for row in rows]

    async def _publish(self, session: Session, items: Sequence[FeedItem]) -> None:
        """All in order; again from the first one when the broker went away in between."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for message in (message for item in items for message in messages(item)):
                        topic, payload, retain = message
                        group.create_task(session.publish(topic, payload, qos=1, retain=retain))
            except* BrokerUnavailable:
                await asyncio.sleep(0.2)
            else:
                return


def messages(item: FeedItem) -> list[tuple[str, bytes, bool]]:
    """(topic, payload, retain) of what is told. A late violation does not replace what is current."""
    if item.kind == "presence":
        return [(topics.presence(item.device_id), item.body, True)]
    topic = topics.alert(item.device_id, item.rule_id or "")
    if item.state == AlertState.RESOLVED:
        return [(topic, item.body, False), (topic, b"", True)]
    return [(topic, item.body, not item.late)]
