"""Imports of devices: a whole file, or nothing of it, in one transaction.

1. read      in a thread, one file at a time: every row is checked before anything is changed
2. create    the devices that are new
3. lock      the lanes of the others, as each change of a registration does
4. register  a piece of the rows per statement, so that the event loop never sends all of them at once
5. end       the version of the registry, the row of the audit, and the commit
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from api.imports.rows import DeviceRow, Import, read_rows
from api.store.change import change, note
from api.store.database import Database
from api.store.registry import queries as registry_queries
from runtime.errors import Conflict, Overloaded
from schema.database import Connection, fetch_row
from schema.locks import lane, take_lanes
from schema.queries import load_queries

IMPORT_BYTES_MAX = 8 * 1024 * 1024
TRANSACTION_S_MAX = 10.0
WAIT_S_MAX = 10.0  # for another import of this process; then the response is 503
ROWS_OF_A_STATEMENT = 500
IDS_IN_THE_AUDIT_MAX = 100

queries = load_queries("api.imports", "import.sql")


@dataclass(frozen=True, slots=True)
class Imported:
    """How many devices the file has, and how many of them were new or had another registration."""

    devices: int
    created: int
    changed: int


class ImportStore:
    def __init__(self, database: Database, default_profile: str) -> None:
        self._database, self._default_profile = database, default_profile
        self._slot = asyncio.Semaphore(1)

    async def run(self, payload: bytes, *, is_csv: bool) -> Imported:
        """Raises InvalidRequest with the faults of all rows; Overloaded, Conflict and TimeoutError."""
        async with self._alone():
            file = await asyncio.to_thread(read_rows, payload, is_csv=is_csv)
            await self._require_profiles(file)
            async with change(self._database, TRANSACTION_S_MAX) as (connection, _):
                return await self._import(connection, file.rows)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._slot.acquire(), WAIT_S_MAX)
        except TimeoutError:
            raise Overloaded("Another import is running: retry later.") from None
        try:
            yield
        finally:
            self._slot.release()

    async def _require_profiles(self, file: Import) -> None:
        """A profile is never deleted, so this may be checked before the transaction."""
        named = {row.profile for row in file.rows if row.profile is not None}
        found = await self._database.fetch(queries.known_profiles, sorted(named))
        missing = named - {row["name"] for row in found}
        for row in file.rows if missing else ():
            if row.profile in missing:
                file.faults.add(row.place, "profile", f"there is no profile {row.profile!r}")
        if missing:
            raise file.faults.error()

    async def _import(self, connection: Connection, rows: Sequence[DeviceRow]) -> Imported:
        created = await self._create(connection, sorted(row.device_id for row in rows))
        profiles = {row.profile or self._default_profile for row in rows}
        await connection.execute(queries.lock_profiles, sorted(profiles))
        changed = await self._register(connection, rows)
        if changed:
            await connection.execute(
                registry_queries.update_expected_intervals, changed, None, self._default_profile
            )
            await connection.execute(registry_queries.increment_registry_version)
        imported = Imported(len(rows), created, len(changed) - created)
        details = msgspec.to_builtins(imported)
        details["first_ids"] = [row.device_id for row in rows[:IDS_IN_THE_AUDIT_MAX]]
        await note(connection, "device.import", None, details)
        return imported

    async def _create(self, connection: Connection, device_ids: Sequence[str]) -> int:
        """Make the devices that are new, and lock the lanes of the others."""
        rows = await connection.fetch(queries.create_devices, device_ids)
        created = {row["device_no"] for row in rows}
        found = {
            row["device_no"] for row in await connection.fetch(queries.device_numbers, device_ids)
        }
        await take_lanes(connection, {lane(number) for number in found - created})
        return len(created)

    async def _register(self, connection: Connection, rows: Sequence[DeviceRow]) -> list[int]:
        """The numbers of the devices whose registration changed."""
        changed: list[int] = []
        devices = 0
        for piece in _pieces(rows):
            registered = await fetch_row(connection, queries.register_devices, piece)
            devices += registered["devices"]
            changed += registered["changed"]
        if devices != len(rows):
            raise Conflict("A device of the import was deleted concurrently; retry.")
        return changed


def _pieces(rows: Sequence[DeviceRow]) -> Iterator[str]:
    """The registrations as JSON arrays, one for each statement."""
    for start in range(0, len(rows), ROWS_OF_A_STATEMENT):
        piece = rows[start : start + ROWS_OF_A_STATEMENT]
        yield f"[{b','.join(row.registration for row in piece).decode()}]"
