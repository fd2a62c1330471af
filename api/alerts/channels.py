"""Channels: their addresses and secrets go in and do not come out again."""

import asyncio
from time import monotonic

import asyncpg

from api.store.change import change, note
from api.store.database import Database
from runtime.errors import Conflict, InvalidRequest, NotFound, Overloaded
from schema.channels.body import ChannelBody, NewChannelBody
from schema.channels.urls import check_channel, is_webhook, new_webhook_secret
from schema.queries import load_queries

CHANNELS_MAX = 100  # Each has a task of its own in the scheduler.
TEST_S_MAX, TEST_POLL_S = 40.0, 0.2

queries = load_queries("api.alerts", "channels.sql")


class ChannelStore:
    def __init__(self, database: Database, *, private_addresses: bool) -> None:
        self._database, self._private_addresses = database, private_addresses

    async def page(self, after: str, limit: int) -> list[asyncpg.Record]:
        """Return channels by name, and one more than `limit` if there is another page."""
        return await self._database.fetch(queries.list_channels, after, limit + 1, None)

    async def one(self, name: str) -> str:
        """Raises NotFound."""
        row = await self._database.fetch_row(queries.list_channels, "", 1, name)
        if row is None:
            raise _not_found(name)
        return str(row["body"])

    async def add(self, body: NewChannelBody) -> str | None:
        """Return the secret that was made for a webhook without one, to be shown now and never again.

        Raises Conflict, or InvalidRequest for an address that cannot be used.
        """
        made = new_webhook_secret() if is_webhook(body.url) and body.secret is None else None
        secret = body.secret or made
        shown = await self._checked(body.url, secret)
        async with change(self._database) as (connection, _):
            added = await connection.fetchval(
                queries.insert_channel,
                body.name,
                body.url,
                shown,
                secret,
                CHANNELS_MAX,
                bool(body.silent),
            )
            if added is None:
                if await connection.fetchval(queries.channel_exists, body.name):
                    raise Conflict(f"The channel {body.name!r} exists.")
                raise Conflict(f"There are {CHANNELS_MAX} channels already: delete one.")
            await note(connection, "channel.create", body.name, {"address": shown})
        return made

    async def change(self, name: str, body: ChannelBody) -> None:
        """What is absent stays as it is. Raises NotFound, InvalidRequest."""
        async with change(self._database) as (connection, _):
            old = await connection.fetchrow(queries.channel_secrets, name)
            if old is None:
                raise _not_found(name)
            url = body.url or old["url"]
            secret = body.secret or (old["secret"] if is_webhook(url) else None)
            shown = await self._checked(url, secret)
            await connection.execute(queries.update_channel, name, url, shown, secret)
            if body.silent is not None:
                await connection.execute(queries.set_silent, name, body.silent)
            details = {"address": shown, "new_secret": body.secret is not None}
            await note(connection, "channel.update", name, details)

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        async with change(self._database) as (connection, _):
            if await connection.fetchval(queries.delete_channel, name) is None:
                raise _not_found(name)
            await note(connection, "channel.delete", name)

    async def test(self, name: str) -> str | None:
        """Let the scheduler send a test; return why it failed, None if it was delivered.

        Raises NotFound, or Overloaded if no scheduler took the test.
        """
        async with change(self._database) as (connection, _):
            if not await connection.fetchval(queries.channel_exists, name):
                raise _not_found(name)
            test_id = await connection.fetchval(queries.request_test, name)
            await note(connection, "channel.test", name)
        deadline = monotonic() + TEST_S_MAX
        while monotonic() < deadline:
            row = await self._database.fetch_row(queries.test_result, test_id)
            if row is None:
                raise _not_found(name)
            if row["finished"]:
                return None if row["failure"] is None else str(row["failure"])
            await asyncio.sleep(TEST_POLL_S)
        raise Overloaded(
            "No scheduler sent the test; see whether voltwire schedule runs.", retry_after_s=5
        )

    async def _checked(self, url: str, secret: str | None) -> str:
        try:
            return await asyncio.to_thread(
                check_channel, url, secret, private_addresses=self._private_addresses
            )
        except ValueError as error:
            raise InvalidRequest(f"{error}.") from error


def _not_found(name: str) -> NotFound:
    return NotFound(f"There is no channel {name!r}.")
