"""One ingestor per client id: only the holder of the lease may connect to the broker.

Two clients with one id would disconnect each other endlessly [MQTT-3.1.4-2]. So an ingestor takes an
advisory lock before it connects. A second one waits as a standby and takes over when the first ends,
however it ends: PostgreSQL releases the lock with the connection.
"""

import asyncio
from datetime import datetime

import structlog

from runtime.health import Health
from schema.database import DATABASE_ERRORS, WRITER_SESSION, Connection, connect, fetch_row
from schema.locks import INGEST, take_lease
from schema.presence import TIMES
from schema.queries import load_queries

RETRY_S = 1.0
ANSWER_S_MAX = 5.0

queries = load_queries("ingestor.mqtt", constants=TIMES)
log = structlog.get_logger()


class Lease:
    """The lease of one client id, and whether we hold it.

    While the database is unavailable nobody can take the lease, so its last holder stays connected and
    the broker keeps its window. It does not reconnect to the broker before the lease is confirmed: perhaps
    only our own link to the database is down and a standby has taken the lease; then it is lost.
    """

    def __init__(self, dsn: str, client_id: str, health: Health) -> None:
        self._dsn, self._client_id, self._health = dsn, client_id, health
        self._held, self._lost, self._confirmed = (asyncio.Event() for _ in range(3))
        self._backend: tuple[int, datetime] | None = None  # of our previous connection

    async def run(self) -> None:
        """Take the lease, keep it, and take it again after a lost connection, until cancelled."""
        name = f"{self._client_id} lease"
        while True:
            try:
                connection = await connect(
                    self._dsn, name, WRITER_SESSION, command_timeout_s=ANSWER_S_MAX
                )
                try:
                    await self._hold(connection)
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as error:
                log.debug("The lease cannot be queried.", error=repr(error))
                self._confirmed.clear()
                self._health.report("lease", ok=False, detail="the database cannot be queried")
            await asyncio.sleep(RETRY_S)

    async def held(self) -> None:
        """Return when we hold the lease, which may have to be confirmed again."""
        await self._held.wait()

    async def confirmed(self) -> None:
        """Return when the database confirms that we hold the lease."""
        await self._confirmed.wait()

    async def lost(self) -> None:
        """Return when another ingestor holds the lease."""
        await self._lost.wait()

    async def _hold(self, connection: Connection) -> None:
        """Poll until we hold the lease, then check the connection that holds it, until it fails."""
        while not await take_lease(connection, INGEST, self._client_id):
            # The holder may be our own previous connection, whose end the server has not noticed.
            ended = self._backend is not None and await connection.fetchval(
                queries.end_previous_lease, INGEST, self._client_id, *self._backend
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
        detail = "held" if ours else "another ingestor of this INSTANCE holds it: standing by"
        if self._health.report("lease", ok=ours, detail=detail) and not ours:
            log.warning("Another ingestor of this INSTANCE holds the lease: standing by.")
