"""Profiles and the registration of devices.

Each change is in force, in every process, for every event received after it returned.
"""

from typing import Any

import asyncpg
import msgspec
from pydantic import BaseModel

from api.auth.caller import caller
from api.store.change import CHANGE_S_MAX, change, end_incidents, note
from api.store.database import Database
from api.store.devices import no_device, one_device
from api.store.devices import queries as device_queries
from runtime.errors import Conflict, InvalidRequest, NotFound
from schema.access.credentials import revoke_device
from schema.database import Connection, fetch_row
from schema.deleted_devices import delete_events_for
from schema.event import json_form, json_number
from schema.locks import lane, take_lanes
from schema.presence import PresenceState, presence_forgotten
from schema.queries import load_queries
from schema.registry import DeviceBody, MetricBody, NewDeviceBody, ProfileBody

DELETE_EVENTS_S_MAX = 2.0  # A request deletes events for this long; the scheduler deletes the rest.

queries = load_queries("api.store", "registry.sql")


class RegistryStore:
    def __init__(self, database: Database, default_profile: str) -> None:
        self._database, self._default_profile = database, default_profile

    async def add_device(self, body: NewDeviceBody) -> str:
        """The device as JSON text. Raises Conflict if it is registered, InvalidRequest like put_device."""
        async with change(self._database) as (connection, _):
            number, _ = await self._locked_device(connection, body.device_id)
            if await self._register(connection, number, body, replace=False) is None:
                raise Conflict(
                    f"The device {body.device_id!r} is already registered; use PUT to replace it."
                )
            await connection.execute(queries.increment_registry_version)
            await note(connection, "device.register", body.device_id, _written(body))
            return await self._device(connection, body.device_id)

    async def put_device(self, device_id: str, body: DeviceBody) -> tuple[str, bool]:
        """The device as JSON text, and whether it is new. Raises InvalidRequest for an unknown profile."""
        async with change(self._database) as (connection, _):
            number, created = await self._locked_device(connection, device_id)
            if await self._register(connection, number, body, replace=True):
                await connection.execute(queries.increment_registry_version)
            await note(connection, "device.register", device_id, _written(body))
            return await self._device(connection, device_id), created

    async def forget_device(self, device_id: str, *, with_events: bool) -> None:
        """Forget registration, credentials, presence and incidents of a device, and its events if asked to.

        It stays as `never_seen` if it has events that stay. Raises NotFound.
        """
        async with change(self._database) as (connection, notifications):
            await note(connection, "device.forget", device_id, {"events": with_events})
            number = await self._device_to_forget(connection, device_id)
            if number is None:
                return
            # Presence first: a sweep that is opening an incident ends before, and the next skips the device.
            forgotten = await fetch_row(connection, queries.forget_presence, number)
            notifications.extend(await end_incidents(connection, device_no=number))
            if forgotten["was"] != PresenceState.NEVER_SEEN:
                notifications.append(presence_forgotten(device_id, forgotten["since"]))
            await connection.execute(queries.delete_registration, number)
            await connection.execute(queries.delete_reused_ids, number)
            await self._update_expected_intervals(connection, device_no=number)
            if with_events:
                await connection.execute(queries.note_deleted_device, number)
            await connection.execute(queries.delete_device_without_events, number)
            await connection.execute(queries.increment_registry_version)
        if with_events:
            async with self._database.connection(CHANGE_S_MAX) as connection:
                await delete_events_for(connection, number, DELETE_EVENTS_S_MAX)

    async def _device_to_forget(self, connection: Connection, device_id: str) -> int | None:
        """Its number, None if it had credentials alone, which are revoked here. Raises NotFound."""
        revoked = await revoke_device(connection, caller().actor, device_id)
        if revoked and await connection.fetchval(device_queries.find_device, device_id) is None:
            return None
        return await self._existing_device(connection, device_id)

    async def reset_reused_ids(self, device_id: str) -> None:
        """Begin to count at zero again. Raises NotFound."""
        async with change(self._database) as (connection, _):
            number = await self._existing_device(connection, device_id)
            await connection.execute(queries.delete_reused_ids, number)
            await note(connection, "device.reset_reused_ids", device_id)

    async def profiles(self, after: str, limit: int) -> list[asyncpg.Record]:
        """Return profiles by name, and one more than `limit` if there is another page."""
        return await self._database.fetch(queries.list_profiles, after, None, limit + 1)

    async def profile(self, name: str) -> str:
        """The profile as JSON text. Raises NotFound."""
        row = await self._database.fetch_row(queries.list_profiles, "", name, 1)
        if row is None:
            raise NotFound(f"There is no profile {name!r}.")
        return str(row["body"])

    async def profile_metrics(self, name: str) -> list[str]:
        """The metrics of a profile, by name; none if there is no such profile."""
        rows = await self._database.fetch(queries.profile_metrics, name)
        return [row["metric"] for row in rows]

    async def put_profile(self, name: str, body: ProfileBody) -> bool:
        """Return whether the profile is new."""
        metrics = {metric: _json_members(limits) for metric, limits in body.metrics.items()}
        async with change(self._database) as (connection, _):
            await take_lanes(connection)
            written = await fetch_row(
                connection, queries.put_profile,
                name, msgspec.json.encode(metrics).decode(), body.interval_s, body.receipts,
            )  # fmt: skip
            if written["changed"]:
                await self._update_expected_intervals(connection, profile=name)
                await connection.execute(queries.increment_registry_version)
            await note(connection, "profile.write", name, _written(body))
            return bool(written["created"])

    async def _device(self, connection: Connection, device_id: str) -> str:
        """Read in the transaction of the change: later another request may have changed it."""
        return await one_device(connection, device_id, self._default_profile)

    async def _locked_device(self, connection: Connection, device_id: str) -> tuple[int, bool]:
        """The device's number with its lane locked, and whether it is new. Raises Conflict."""
        created = await connection.fetchval(queries.create_device, device_id)
        if created is not None:
            return created, True
        number = await connection.fetchval(device_queries.find_device, device_id)
        if number is not None:
            await take_lanes(connection, [lane(number)])
            if await connection.fetchval(device_queries.find_device, device_id) == number:
                return number, False
        raise Conflict(f"The device {device_id!r} was deleted concurrently; retry.")

    async def _existing_device(self, connection: Connection, device_id: str) -> int:
        """The device's number with its lane locked. Raises NotFound."""
        number = await connection.fetchval(device_queries.find_device, device_id)
        if number is not None:
            await take_lanes(connection, [lane(number)])
            if await connection.fetchval(device_queries.find_device, device_id) == number:
                return int(number)
        raise no_device(device_id)

    async def _register(
        self, connection: Connection, number: int, body: DeviceBody, *, replace: bool
    ) -> bool | None:
        """Return whether the registration changed; None if there is one that must not be replaced."""
        profile = body.profile or self._default_profile
        known = await connection.fetchrow(queries.lock_profile, profile)
        if known is None and body.profile is not None:
            raise InvalidRequest(f"profile: there is no profile {body.profile!r}.")
        tags = list(dict.fromkeys(body.tags))
        changed: bool | None = await connection.fetchval(
            queries.register_device, number, body.name, body.profile, tags, attributes_json(body),
            body.interval_s, body.tz, replace,
        )  # fmt: skip
        await self._update_expected_intervals(connection, device_no=number)
        return changed

    async def _update_expected_intervals(
        self, connection: Connection, *, device_no: int | None = None, profile: str | None = None
    ) -> None:
        numbers = None if device_no is None else [device_no]
        await connection.execute(
            queries.update_expected_intervals, numbers, profile, self._default_profile
        )


def _written(body: BaseModel) -> dict[str, Any]:
    """What was written, without what was left at its default."""
    return body.model_dump(mode="json", exclude_defaults=True)


def attributes_json(body: DeviceBody) -> str:
    """The attributes as every response writes them."""
    shown = {
        name: value if isinstance(value, str) else json_form(value)
        for name, value in body.attributes.items()
    }
    return msgspec.json.encode(shown).decode()


def _json_members(limits: MetricBody) -> dict[str, Any]:
    """Only the members that are given; numbers are written as in every response."""
    return {
        name: json_number(value) if isinstance(value, float) else value
        for name, value in limits.model_dump(exclude_none=True).items()
    }
