"""The canary: proof that messages of devices reach us, through the broker and the pipeline.

Every two seconds the ingestor sends a message to itself. Once it has come back and everything before it
is stored, its arrival is recorded in the database. The sweep for silence evaluates no device for a time
without such a record: our own downtime, a lost link or a backlog is not the device's silence.

A granted subscription is no proof of delivery (a broker may grant `#` to a client that may read
nothing), so `broker` is ok only from the first message on. A connection on which nothing arrives, although
the pipeline is idle, is replaced by a new one.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from uuid import uuid4

import structlog

from broker.client.delivery import Delivery
from broker.client.session import Session
from ingestor.pipeline import Pipeline
from runtime.errors import BrokerUnavailable
from runtime.health import Health
from schema.database import DATABASE_ERRORS, WRITER_SESSION, Connection, connect
from schema.presence import CANARY_STALE_S, TIMES
from schema.queries import load_queries

EVERY_S = 2.0
SILENT_S_MAX = 30.0  # Fifteen canaries are missing by then.

queries = load_queries("ingestor.mqtt", constants=TIMES)
log = structlog.get_logger()


class CanaryMonitor:
    """Sends the canary on `topic`; the door calls `on_delivery` for each delivery, `on_canary` for ours.

    The checks: `broker` is connected and delivers, `canary` came back within the last 10 s.
    """

    def __init__(
        self,
        dsn: str,
        client_id: str,
        pipeline: Pipeline,
        health: Health,
        *,
        topic: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._dsn, self._client_id, self._pipeline = dsn, client_id, pipeline
        self._health, self._clock = health, clock
        self.topic = topic
        self._process = uuid4().hex  # The broker may hold canaries that an earlier process sent.
        self._session: Session | None = None
        self._returned = asyncio.Event()
        self._delivered_at: float | None = None  # None: never in this process.
        self._silent_since = clock()
        self._recorded_at: float | None = None  # None: never in this process.
        self._connection: Connection | None = None

    def on_delivery(self) -> None:
        """A message arrived, whichever it is."""
        first = self._delivered_at is None
        self._delivered_at = self._clock()
        if first:
            self._report()

    def on_canary(self) -> None:
        self._returned.set()

    async def run(self, session: Session) -> None:
        """Send the canary, replace a silent connection and record arrivals, until cancelled."""
        self._session = session
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_loop(session))
            group.create_task(self._record_loop())

    async def round_trip(self, session: Session) -> None:
        """Return when one canary has come back and everything before it is stored; instead of `run`."""
        while not self._returned.is_set():
            with suppress(BrokerUnavailable):
                await self._send(session)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._returned.wait()
        await self._pipeline.flushed()

    def is_of_connection(self, delivery: Delivery) -> bool:
        """Whether this canary was sent on the connection on which it arrived, rather than earlier."""
        return delivery.payload == self._payload(delivery.generation)

    async def _send(self, session: Session) -> None:
        await session.publish(self.topic, self._payload(session.generation), qos=1)

    def _payload(self, generation: int) -> bytes:
        return f"canary {self._process} {generation}".encode()

    async def _send_loop(self, session: Session) -> None:
        while True:
            self._report()
            self._reconnect_if_silent(session)
            with suppress(BrokerUnavailable):
                await self._send(session)
            await asyncio.sleep(EVERY_S if session.connected else 0.1)

    def _reconnect_if_silent(self, session: Session) -> None:
        """Do nothing while messages wait for the database: the broker is silent once its window is full."""
        now = self._clock()
        if not session.connected or not self._pipeline.idle:
            self._silent_since = now
        last = max(self._silent_since, self._delivered_at or 0.0)
        if now - last > SILENT_S_MAX:
            self._silent_since = now
            log.error(
                "The broker delivers nothing on this connection, not even our own canary: reconnecting."
                " Check that it allows us to read and write our topics.",
                topic=self.topic,
            )
            session.reconnect()

    async def _record_loop(self) -> None:
        """Record each canary that came back in the database, until cancelled."""
        try:
            while True:
                await self._returned.wait()
                self._returned.clear()
                await self._pipeline.flushed()
                await self._record()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def _record(self) -> None:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(
                    self._dsn, f"{self._client_id} canary", WRITER_SESSION, command_timeout_s=5
                )
            await self._connection.execute(queries.record_canary, self._client_id)
            self._recorded_at = self._clock()
        except DATABASE_ERRORS as error:
            log.debug("The arrival of the canary could not be recorded.", error=repr(error))
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None

    def _report(self) -> None:
        connected = self._session is not None and self._session.connected
        delivers = self._delivered_at is not None
        detail = "not connected, retrying"
        if connected:
            detail = "subscribed" if delivers else "subscribed, but nothing was delivered yet"
        self._health.report("broker", ok=connected and delivers, detail=detail)
        if self._recorded_at is not None:
            silent_s = self._clock() - self._recorded_at
            self._health.report(
                "canary", ok=silent_s < CANARY_STALE_S, detail=f"received {silent_s:.0f} s ago"
            )
