"""One ingestor per client id: the lease that says who may connect.

Two clients with one id push each other out of the broker for ever [MQTT-3.1.4-2]. So an ingestor takes
an advisory lock before it connects. A second one waits as a standby and takes over when the first ends,
however it ends: the lock is gone with its connection.
"""

import asyncio
from datetime import datetime

import structlog

from runtime.health import Health
from schema.database import DATABASE_ERRORS, WRITER_LIMITS, Connection, connect, fetch_row
from schema.locks import INGEST, take_lease
from schema.presence import TIMES
from schema.queries import load_queries

RETRY_S = 1.0
ANSWER_S_MAX = 5.0

queries = load_queries("ingestor.mqtt", constants=TIMES)
log = structlog.get_logger()


class Lease:
    """Whether we may be connected.

    While the database is away nobody can take the lease, so who held it last stays connected and the
    broker keeps its window. But it does not connect anew before the lease is confirmed: perhaps only our
    own link to the database is cut, and another one works. If that was faster, the lease is lost.
    """

    def __init__(self, dsn: str, client_id: str, health: Health) -> None:
        self._dsn, self._client_id, self._health = dsn, client_id, health
        self._held, self._lost, self._confirmed = (asyncio.Event() for _ in range(3))
        self._backend: tuple[int, datetime] | None = None  # of our former connection

    async def run(self) -> None:
        """Take the lease, keep it, take it again, until cancelled."""
        name = f"{self._client_id} lease"
        while True:
            try:
                connection = await connect(
                    self._dsn, name, WRITER_LIMITS, command_timeout_s=ANSWER_S_MAX
                )
                try:
                    await self._hold(connection)
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as error:
                log.debug("The lease cannot be asked for.", error=repr(error))
                self._confirmed.clear()
                self._health.report("lease", ok=False, detail="the database cannot be asked")
            await asyncio.sleep(RETRY_S)

    async def held(self) -> None:
        """Return when the lease is ours."""
        await self._held.wait()

    async def confirmed(self) -> None:
        """Return when the database says that it is ours."""
        await self._confirmed.wait()

    async def lost(self) -> None:
        """Return when another ingestor has it."""
        await self._lost.wait()

    async def _hold(self, connection: Connection) -> None:
        """Ask until it is ours, then look that it stays so; the end is the fault of the connection."""
        while not await take_lease(connection, INGEST, self._client_id):
            # Perhaps by a connection of our own, whose end the server has not noticed.
            ended = self._backend is not None and await connection.fetchval(
                queries.end_former_lease, INGEST, self._client_id, *self._backend
            )
            if not ended:
                self._report(ours=False)
            await asyncio.sleep(RETRY_S)
        self._backend = tuple(await fetch_row(connection, queries.whoami))
        self._report(ours=True)
        while True:
            await asyncio.sleep(RETRY_S)
            await connection.execute("select 1")

    def _report(self, *, ours: bool) -> None:
        for event, happened in (
            (self._held, ours), (self._confirmed, ours), (self._lost, not ours)
        ):  # fmt: skip
            (event.set if happened else event.clear)()
        detail = "held" if ours else "another ingestor of this INSTANCE works: standing by"
        if self._health.report("lease", ok=ours, detail=detail) and not ours:
            log.warning("Another ingestor of this INSTANCE works: standing by.")
