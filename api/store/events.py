"""What the API asks of the tables, but for aggregates, and the few things it changes in them."""

from datetime import datetime
from typing import Any, NamedTuple

from api.store.database import DEVICE_WINDOWS, FLEET_WINDOWS, Database
from runtime.errors import NotFound
from schema.instants import LATEST
from schema.queries import load_queries

METRICS_POINTS_MAX = 50_000
LAST_KEY = "\U0010ffff"

queries = load_queries("api.store", "events.sql")
of_latest = load_queries("api.store", "latest.sql")
LATEST_VALUES = of_latest.latest_values.format(late="", candidates="known")
LATEST_VALUES_WITH_LATE = of_latest.latest_values.format(
    late=of_latest.late, candidates="candidate"
)


class KnownDevice(NamedTuple):
    device_no: int
    device_id: str
    profile: str


class EventStore:
    def __init__(self, reader: Database, default_profile: str) -> None:
        self._reader, self._default_profile = reader, default_profile

    async def device(self, device_id: str) -> KnownDevice:
        """Raises NotFound: a device exists from its first stored event, heartbeat or status."""
        row = await self._reader.ask("fetchrow", queries.find_device, device_id)
        if row is None:
            raise NotFound(f"There is no device {device_id!r}.")
        profile = row["profile"] or self._default_profile
        return KnownDevice(row["device_no"], row["device_id"], profile)

    async def events(
        self,
        device: KnownDevice,
        start: datetime | None,
        end: datetime | None,
        *,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Any]:
        """Newest first; one row more than `limit` if there is another page."""
        key = after or (LATEST, LAST_KEY)
        return await self._reader.newest_first(
            queries.device_events, device[:2], start, end, key, limit, DEVICE_WINDOWS
        )

    async def search(
        self,
        tags: str,
        start: datetime | None,
        end: datetime | None,
        *,
        after: tuple[datetime, str, int] | None,
        limit: int,
    ) -> list[Any]:
        """`tags` is a tsquery over whole tags. Newest first, as `events`."""
        key = after or (LATEST, LAST_KEY, 0)
        async with self._reader.costly():
            return await self._reader.newest_first(
                queries.search_events, (tags,), start, end, key, limit, FLEET_WINDOWS
            )

    async def metrics(self, device: KnownDevice, start: datetime, end: datetime) -> str:
        body = await self._reader.ask(
            "fetchval", queries.device_metrics, *device[:2], start, end, METRICS_POINTS_MAX
        )
        await self._reader.require_kept(start)
        return str(body)

    async def profile_metrics(self, profile: str) -> list[str]:
        rows = await self._reader.ask("fetch", queries.profile_metrics, profile)
        return [row["metric"] for row in rows]

    async def devices(
        self, after: str, state: str | None, tag: str | None, text: str | None, limit: int
    ) -> list[Any]:
        return list(
            await self._reader.ask(
                "fetch",
                queries.list_devices,
                self._default_profile,
                after,
                state,
                tag,
                text,
                limit + 1,
            )
        )

    async def one_device(self, device_id: str) -> str:
        return await self._body(queries.one_device, self._default_profile, device_id)

    async def presence(self, device_id: str) -> str:
        return await self._body(queries.one_presence, device_id)

    async def latest(self, device_id: str) -> str:
        """The newest value of each metric. Exact, however far the rollups lag behind."""
        row = await self._reader.ask("fetchrow", of_latest.find_device, device_id)
        if row is None:
            raise NotFound(f"There is no device {device_id!r}.")
        subject = row["device_no"], device_id, row["closed"]
        found = await self._reader.ask("fetchrow", LATEST_VALUES, *subject)
        if found["marked"]:
            found = await self._reader.ask("fetchrow", LATEST_VALUES_WITH_LATE, *subject)
        return str(found["body"])

    async def rejected(
        self,
        before: int,
        device_id: str | None,
        reason: str | None,
        door: str | None,
        start: datetime | None,
        end: datetime | None,
        replayed: bool | None,  # noqa: FBT001  # As the question has it.
        *,
        limit: int,
    ) -> list[Any]:
        """Dead letters below a number, newest first; one row more than `limit` if there is a page more."""
        return list(
            await self._reader.ask(
                "fetch", queries.list_rejected, before, device_id, reason, door, start, end,
                replayed, limit + 1,
            )
        )  # fmt: skip

    async def rejected_payload(self, rejected_id: int) -> tuple[str, bytes]:
        """What is known of a dead letter, as JSON text, and its payload."""
        row = await self._reader.ask("fetchrow", queries.one_rejected, rejected_id)
        if row is None:
            raise NotFound(f"There is no dead letter {rejected_id}.")
        return row["body"], row["payload"]

    async def _body(self, query: str, *arguments: Any) -> str:
        body = await self._reader.ask("fetchval", query, *arguments)
        if body is None:
            raise NotFound(f"There is no device {arguments[-1]!r}.")
        return str(body)
