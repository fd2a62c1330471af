"""Whether we hear the devices at all: a canary message through the broker and the pipeline.

Every two seconds the ingestor sends a message to itself. When it came back, and everything that came
before it is stored, the database notes that we heard. The sweep for silence judges nobody for a time
without such a note: our own downtime, a lost link or a backlog is not the device's silence.
"""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Any

import structlog

from broker import topics
from broker.session import Session
from ingestor.pipeline import Pipeline
from schema.database import DATABASE_ERRORS, WRITER_LIMITS, connect
from schema.errors import BrokerUnavailable
from schema.health import Health
from schema.queries import load_queries

EVERY_S = 2.0
DEAF_AFTER_S = 10.0  # As in the queries hear_canary and sweep_presence.

queries = load_queries("ingestor")
log = structlog.get_logger()


class Hearing:
    def __init__(self, dsn: str, instance: str, pipeline: Pipeline, health: Health) -> None:
        self._dsn, self._listener, self._pipeline = dsn, instance, pipeline
        self._health = health
        self.topic = topics.canary(instance)
        self._came = asyncio.Event()
        self._heard_at: float | None = None
        self._connection: Any = None

    def came(self) -> None:
        """The canary arrived."""
        self._came.set()

    async def sing(self, session: Session) -> None:
        """Send the canary, and report the broker's health, until cancelled."""
        while True:
            self._report(session)
            with suppress(BrokerUnavailable):
                await session.publish(self.topic, b"canary", qos=1)
            await asyncio.sleep(EVERY_S if session.connected else 0.1)

    async def note(self) -> None:
        """Note in the database what was heard, until cancelled."""
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                await self._pipeline.flushed()
                await self._note()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def _note(self) -> None:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(
                    self._dsn, f"{self._listener} hearing", WRITER_LIMITS, command_timeout_s=5
                )
            await self._connection.execute(queries.hear_canary, self._listener)
            self._heard_at = monotonic()
        except DATABASE_ERRORS as error:
            log.debug("The canary could not be noted.", error=repr(error))
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None

    def _report(self, session: Session) -> None:
        self._health.report(
            "broker",
            ok=session.connected,
            detail="subscribed" if session.connected else "not connected, trying again",
        )
        if self._heard_at is not None:
            silent_s = monotonic() - self._heard_at
            self._health.report(
                "canary", ok=silent_s < DEAF_AFTER_S, detail=f"heard {silent_s:.0f} s ago"
            )
