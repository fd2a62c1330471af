"""The newest value of each metric, of one device and of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import asyncpg

from api.store.closed_hour import ClosedHour
from api.store.database import Database, constant
from api.store.devices import no_device
from schema.presence import PresenceState
from schema.queries import load_queries

# Events that a list reads per device: of the hours without rollups, and of those with late events.
RECENT_EVENTS = 100
STATEMENTS_MAX = 8  # Kept texts, of this hour and the one before.

queries = load_queries("api.latest", "latest.sql", {"recent_events": RECENT_EVENTS})
LATEST_OF_MANY = queries.latest_of_many.format(late="")
LATEST_OF_MANY_WITH_LATE = queries.latest_of_many.format(late=queries.late_of_many)


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices: those that meet all conditions that are not None."""

    device_ids: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    states: Sequence[PresenceState] | None = None
    text: str | None = None


@lru_cache(STATEMENTS_MAX)
def latest_values(closed: datetime, marked: bool, unusual: bool) -> str:  # noqa: FBT001
    """By what is included, which takes longer: the events of marked hours, the form of unusual numbers."""
    return str(
        queries.latest_values.format(
            closed=constant(closed),
            late=queries.late.format(closed=constant(closed)) if marked else "",
            late_values="union all select * from late_value" if marked else "",
            number="json_number(value)" if unusual else "trim_scale(value)",
        )
    )


class LatestStore:
    """Values are JSON text: `{"temp":{"value":20.5,"timestamp":"…","event_id":"…"}}`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._closed_hour = ClosedHour(database)

    async def of_one(self, device_id: str) -> str:
        """The newest value of each metric. It is exact, however far the rollups lag behind.

        Raises NotFound.
        """
        included = False, False
        while True:
            closed = await self._closed_hour.bound()
            marked, unusual = included
            # The events of marked hours may lie in any partition, so their plan is not worth keeping.
            fetch = self._database.fetch_row if marked else self._database.look_up
            found = await fetch(latest_values(closed, marked, unusual), device_id)
            if found is None:
                raise no_device(device_id)
            needed = found["marked"] or marked, found["unusual"] or unusual
            if self._closed_hour.held(closed, found["closed"]) and needed == included:
                return str(found["body"])
            included = needed

    async def page(
        self, after: str, wanted: DeviceFilter, metrics: Sequence[str] | None, limit: int
    ) -> list[dict[str, str]]:
        """Devices by id with their values, and one more than `limit` if there is another page."""
        found = await self._database.fetch(
            queries.find_devices, after, wanted.device_ids, wanted.tags, wanted.states, wanted.text, limit + 1
        )  # fmt: skip
        device_ids = [row["device_id"] for row in found]
        values = await self.of_many(device_ids[:limit], metrics)
        return [
            {
                "device_id": device_id,
                "body": f'{{"device_id":"{device_id}","metrics":{values.get(device_id, "{}")}}}',
            }
            for device_id in device_ids
        ]

    async def added_to(self, devices: Sequence[asyncpg.Record]) -> list[dict[str, Any]]:
        """The rows of a list of devices, each with its values as the last member of its body."""
        values = await self.of_many([row["device_id"] for row in devices])
        return [
            {
                "device_id": row["device_id"],
                "body": f'{row["body"][:-1]},"latest":{values.get(row["device_id"], "{}")}}}',
            }
            for row in devices
        ]

    async def of_many(
        self, device_ids: Sequence[str], metrics: Sequence[str] | None = None
    ) -> dict[str, str]:
        """Values by device, without those that have none; None stands for all metrics.

        Of the events since the end of the rollups, and of those in hours with late events, only the newest
        RECENT_EVENTS of a device are read, so that a page takes milliseconds; others follow with rollups.
        """
        [state] = await self._database.fetch(queries.closed_hour_and_marks, device_ids)
        query = LATEST_OF_MANY_WITH_LATE if state["marked"] else LATEST_OF_MANY
        rows = await self._database.fetch(query, device_ids, state["closed"], metrics)
        return {row["device_id"]: row["metrics"] for row in rows}
