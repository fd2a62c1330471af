"""Whether we hear the devices at all: a canary message through the broker and the pipeline.

Every two seconds the ingestor sends a message to itself. When it came back, and everything that came
before it is stored, the database notes that we heard. The sweep for silence judges nobody for a time
without such a note: our own downtime, a lost link or a backlog is not the device's silence.

A granted subscription is no proof of delivery (a broker may grant `#` to a client that may read
nothing), so we count as subscribed only from the first message on. And a connection on which nothing
arrives, though nothing of ours waits, is given up for a new one.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import structlog

from broker.client.session import Session
from ingestor.pipeline import Pipeline
from runtime.errors import BrokerUnavailable
from runtime.health import Health
from schema.database import DATABASE_ERRORS, WRITER_LIMITS, Connection, connect
from schema.presence import CANARY_STALE_S, TIMES
from schema.queries import load_queries

EVERY_S = 2.0
SILENT_S_MAX = 30.0  # On a connection that should bring the canary every two seconds.

queries = load_queries("ingestor.mqtt", constants=TIMES)
log = structlog.get_logger()


class CanaryMonitor:
    """`came` is called for each delivery, `canary_came` for the canary, which comes on `topic`."""

    def __init__(
        self,
        dsn: str,
        listener: str,
        pipeline: Pipeline,
        health: Health,
        *,
        topic: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._dsn, self._listener, self._pipeline = dsn, listener, pipeline
        self._health, self._clock = health, clock
        self.topic = topic
        self._session: Session | None = None
        self._canary_came = asyncio.Event()
        self._delivered_at: float | None = None  # None: never in this process.
        self._silent_since = clock()
        self._heard_at: float | None = None
        self._connection: Connection | None = None

    def came(self) -> None:
        """Something arrived."""
        first = self._delivered_at is None
        self._delivered_at = self._clock()
        if first:
            self._report()

    def canary_came(self) -> None:
        self._canary_came.set()

    async def listen(self, session: Session) -> None:
        """Send the canary, watch what comes, note what was heard, until cancelled."""
        self._session = session
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sing(session))
            group.create_task(self._note())

    async def once(self, session: Session) -> None:
        """Return when a canary came back and everything before it is stored; instead of `listen`."""
        while not self._canary_came.is_set():
            with suppress(BrokerUnavailable):
                await session.publish(self.topic, b"canary", qos=1)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._canary_came.wait()
        await self._pipeline.flushed()

    async def _sing(self, session: Session) -> None:
        while True:
            self._report()
            self._give_up_if_silent(session)
            with suppress(BrokerUnavailable):
                await session.publish(self.topic, b"canary", qos=1)
            await asyncio.sleep(EVERY_S if session.connected else 0.1)

    def _give_up_if_silent(self, session: Session) -> None:
        """While something waits for the database, a full window keeps the broker silent."""
        now = self._clock()
        if not session.connected or not self._pipeline.idle:
            self._silent_since = now
        last = max(self._silent_since, self._delivered_at or 0.0)
        if now - last > SILENT_S_MAX:
            self._silent_since = now
            log.error(
                "The broker is connected and delivers nothing, not even our own message: connecting"
                " anew. See that it lets us read and write our topics.",
                topic=self.topic,
            )
            session.reconnect()

    async def _note(self) -> None:
        """Note in the database what was heard, until cancelled."""
        try:
            while True:
                await self._canary_came.wait()
                self._canary_came.clear()
                await self._pipeline.flushed()
                await self._note_once()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def _note_once(self) -> None:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(
                    self._dsn, f"{self._listener} hearing", WRITER_LIMITS, command_timeout_s=5
                )
            await self._connection.execute(queries.record_canary, self._listener)
            self._heard_at = self._clock()
        except DATABASE_ERRORS as error:
            log.debug("The canary could not be noted.", error=repr(error))
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None

    def _report(self) -> None:
        connected = self._session is not None and self._session.connected
        heard = self._delivered_at is not None
        detail = "not connected, trying again"
        if connected:
            detail = "subscribed" if heard else "subscribed, but nothing was delivered yet"
        self._health.report("broker", ok=connected and heard, detail=detail)
        if self._heard_at is not None:
            silent_s = self._clock() - self._heard_at
            self._health.report(
                "canary", ok=silent_s < CANARY_STALE_S, detail=f"heard {silent_s:.0f} s ago"
            )
