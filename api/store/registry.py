"""Changes of the registry: each is in force, in every process, for every event received after it returned."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from api.store.change import change, end_incidents
from api.store.database import Database
from runtime.errors import Conflict, InvalidRequest, NotFound
from schema.alert import Notification
from schema.database import Connection
from schema.event import json_number
from schema.locks import lane, take_lanes
from schema.queries import load_queries
from schema.registry import DeviceBody, MetricBody, NewDeviceBody, ProfileBody

queries = load_queries("api.store", "registry.sql")
one_device = load_queries("api.store", "events.sql").one_device


class RegistryStore:
    def __init__(self, reader: Database, default_profile: str) -> None:
        self._reader, self._default_profile = reader, default_profile

    async def add_device(self, body: NewDeviceBody) -> str:
        """The device as JSON text. Raises Conflict if it is registered, InvalidRequest as put_device."""
        async with self._change() as (connection, _):
            number, _ = await self._locked_device(connection, body.device_id)
            if not await self._register(connection, number, body, again=False):
                raise Conflict(f"The device {body.device_id!r} is registered: PUT replaces it.")
            return await self._device(connection, body.device_id)

    async def put_device(self, device_id: str, body: DeviceBody) -> tuple[str, bool]:
        """The device as JSON text, and whether it is new. Raises InvalidRequest for an unknown profile."""
        async with self._change() as (connection, _):
            number, created = await self._locked_device(connection, device_id)
            await self._register(connection, number, body, again=True)
            return await self._device(connection, device_id), created

    async def forget_device(self, device_id: str) -> None:
        """Its events stay, and then it does, too; its open incidents end. Raises NotFound."""
        async with self._change() as (connection, told):
            number = await connection.fetchval(queries.find_device, device_id)
            if number is None:
                raise NotFound(f"There is no device {device_id!r}.")
            await take_lanes(connection, [lane(number)])
            told.extend(await end_incidents(connection, device_no=number))
            await connection.execute(queries.forget_registration, number)
            await self._expect_intervals(connection, device_no=number)
            await connection.execute(queries.forget_device, number)

    async def profiles(self, after: str, limit: int) -> list[Any]:
        """By name; one row more than `limit` if there is another page."""
        return list(await self._reader.ask("fetch", queries.list_profiles, after, None, limit + 1))

    async def profile(self, name: str) -> str:
        """As JSON text. Raises NotFound."""
        row = await self._reader.ask("fetchrow", queries.list_profiles, "", name, 1)
        if row is None:
            raise NotFound(f"There is no profile {name!r}.")
        return str(row["body"])

    async def put_profile(self, name: str, body: ProfileBody) -> bool:
        """Whether it is new."""
        metrics = {metric: _shown(limits) for metric, limits in body.metrics.items()}
        async with self._change() as (connection, _):
            await take_lanes(connection)
            created = await connection.fetchval(
                queries.put_profile,
                name, msgspec.json.encode(metrics).decode(), body.interval_s, body.receipts,
            )  # fmt: skip
            await self._expect_intervals(connection, profile=name)
            return bool(created)

    async def _device(self, connection: Connection, device_id: str) -> str:
        """In the transaction of the change: afterwards it may be another one's, or gone."""
        return str(await connection.fetchval(one_device, self._default_profile, device_id))

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[tuple[Any, list[Notification]]]:
        async with change(self._reader) as (connection, told):
            yield connection, told
            await connection.execute(queries.registry_changed)

    async def _locked_device(self, connection: Connection, device_id: str) -> tuple[int, bool]:
        """Its number, and whether it is new; its lane is ours from now on. Raises Conflict if it goes."""
        created = await connection.fetchval(queries.create_device, device_id)
        if created is not None:
            return created, True
        number = await connection.fetchval(queries.find_device, device_id)
        if number is not None:
            await take_lanes(connection, [lane(number)])
            if await connection.fetchval(queries.find_device, device_id) == number:
                return number, False
        raise Conflict(f"The device {device_id!r} was forgotten at this moment: send it again.")

    async def _register(
        self, connection: Connection, number: int, body: DeviceBody, *, again: bool
    ) -> bool:
        profile = body.profile or self._default_profile
        known = await connection.fetchrow(queries.hold_profile, profile)
        if known is None and body.profile is not None:
            raise InvalidRequest(f"profile: there is no profile {body.profile!r}.")
        tags = list(dict.fromkeys(body.tags))
        changed = await connection.fetchval(
            queries.register_device, number, body.name, body.profile, tags, body.interval_s, again
        )
        await self._expect_intervals(connection, device_no=number)
        return changed is not None

    async def _expect_intervals(
        self, connection: Connection, *, device_no: int | None = None, profile: str | None = None
    ) -> None:
        numbers = None if device_no is None else [device_no]
        await connection.execute(queries.expect_intervals, numbers, profile, self._default_profile)


def _shown(limits: MetricBody) -> dict[str, Any]:
    """Without what is absent; numbers as every answer writes them."""
    return {
        name: json_number(value) if isinstance(value, float) else value
        for name, value in limits.model_dump(exclude_none=True).items()
    }
