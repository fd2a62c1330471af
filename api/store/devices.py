"""Devices as the API shows them: registration and presence."""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import asyncpg

from api.store.closed_hour import ClosedHour
from api.store.closed_hour import queries as rollup_queries
from api.store.database import Database, constant
from runtime.errors import NotFound
from schema.database import Connection
from schema.event import SEQ_STEP_MAX
from schema.instants import EARLIEST, LATEST
from schema.presence import PresenceState
from schema.queries import load_queries

# Events of the hours without rollups that a list reads per device, for completeness_percent.
NEWEST_EVENTS = 50

queries = load_queries(
    "api.store", "devices.sql", {"newest_events": NEWEST_EVENTS, "seq_step_max": SEQ_STEP_MAX}
)
ONE_PRESENCE = queries.one_presence.format(presence=queries.presence_columns)


def _of_devices(query: str, closed: str) -> str:
    return query.format(
        presence=queries.presence_columns,
        completeness=queries.completeness_percent.format(closed=closed),
    )


LIST_DEVICES = _of_devices(queries.list_devices, "$7")
ONE_DEVICE = _of_devices(queries.one_device, "$3")
STATEMENTS_MAX = 2  # Kept texts, of this hour and the one before.


@lru_cache(STATEMENTS_MAX)
def device_since(closed: datetime) -> str:
    return _of_devices(queries.one_device, constant(closed))


class KnownDevice(NamedTuple):
    device_no: int
    device_id: str
    profile: str


class DeviceStore:
    """Bodies are JSON text. Every method about one device raises NotFound."""

    def __init__(self, database: Database, default_profile: str) -> None:
        self._database, self._default_profile = database, default_profile
        self._closed_hour = ClosedHour(database)

    async def known(self, device_id: str) -> KnownDevice:
        """A device is known from its first stored event, heartbeat or status."""
        row = await self._database.look_up(queries.find_device, device_id)
        if row is None:
            raise no_device(device_id)
        profile = row["profile"] or self._default_profile
        return KnownDevice(row["device_no"], row["device_id"], profile)

    async def page(
        self, after: str, state: str | None, tag: str | None, text: str | None, limit: int
    ) -> list[asyncpg.Record]:
        """Return devices by id, and one more than `limit` if there is another page."""
        closed = await self._database.fetch_value(rollup_queries.closed_hour)
        arguments = self._default_profile, after, state, tag, text, limit + 1, closed
        return await self._database.fetch(LIST_DEVICES, *arguments)

    async def one(self, device_id: str) -> str:
        while True:
            closed = await self._closed_hour.bound()
            query = device_since(closed)
            found = await self._database.look_up(query, self._default_profile, device_id)
            if found is None:
                raise no_device(device_id)
            if self._closed_hour.held(closed, found["closed"]):
                return str(found["body"])

    async def presence(self, device_id: str) -> str:
        row = await self._database.look_up(ONE_PRESENCE, device_id)
        if row is None:
            raise no_device(device_id)
        return str(row[0])

    async def presence_history(
        self,
        device_id: str,
        start: datetime | None,
        end: datetime | None,
        after: tuple[int, int],
        limit: int,
    ) -> list[asyncpg.Record]:
        """Return changes, the newest first, and one more than `limit` if there is another page."""
        await self.known(device_id)
        return await self._database.fetch(
            queries.presence_history,
            device_id,
            start or EARLIEST,
            end or LATEST,
            *after,
            limit + 1,
        )

    async def fleet(self) -> str:
        """The number of devices per state and in all, and of open incidents, as JSON text."""
        return str(await self._database.fetch_value(queries.fleet, list(PresenceState)))


async def one_device(connection: Connection, device_id: str, default_profile: str) -> str:
    """The device as JSON text, on a connection that changes it. Raises NotFound."""
    closed = await connection.fetchval(rollup_queries.closed_hour)
    body = await connection.fetchval(ONE_DEVICE, default_profile, device_id, closed)
    if body is None:
        raise no_device(device_id)
    return str(body)


def no_device(device_id: str) -> NotFound:
    return NotFound(f"There is no device {device_id!r}.")
