"""Delivery to channels: one scheduler at a time holds the lease and runs a courier for each channel."""

import asyncio
from contextlib import suppress

from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler.channels.courier import Channel, Courier, queries, send
from scheduler.channels.errors import DeliveryFailed
from scheduler.channels.messages import trial
from scheduler.lease import work_as_holder
from schema.database import DATABASE_ERRORS, WRITER_SESSION, Connection, Pool, open_pool
from schema.feed import follow_feed
from schema.locks import CHANNELS

NOTIFIED = "voltwire_channels"  # NOTIFY: a channel changed, or somebody asked for a test.
LEASE = "channels"
LOOK_EVERY_S = 2.0
CONNECTIONS_MAX = 4
TESTS_AT_A_TIME = 4


class ChannelDelivery:
    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._name = f"{settings.instance} channels"
        self._couriers: dict[Channel, tuple[Courier, asyncio.Task[None]]] = {}
        self._tests: set[int] = set()
        self._testing = asyncio.Semaphore(TESTS_AT_A_TIME)
        self._changed, self._any_courier = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled, whenever this scheduler holds the lease."""
        await work_as_holder(
            self._settings.dsn, self._name, CHANNELS, LEASE, self._deliver_as_holder
        )

    async def _deliver_as_holder(self, connection: Connection) -> None:
        """The lease lives as long as this connection, which fails here when it is lost."""
        await connection.add_listener(NOTIFIED, lambda *_: self._changed.set())
        self._couriers.clear()
        self._tests.clear()
        async with (
            await open_pool(
                self._settings.dsn, self._name, WRITER_SESSION, size_max=CONNECTIONS_MAX
            ) as pool,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._wake_couriers())
            while True:
                self._changed.clear()
                await self._follow_channels(connection, pool, group)
                await self._start_tests(connection, pool, group)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._changed.wait()

    async def _wake_couriers(self) -> None:
        """Wake the couriers for new notifications; without a channel the feed is not read."""
        await self._any_courier.wait()
        async for _, items in follow_feed(self._settings.dsn, f"{self._name} feed"):
            # Without items the feed has only begun, and earlier notifications have woken no courier.
            if not items or any(item.kind == "alert" for item in items):
                for courier, _ in self._couriers.values():
                    courier.wake()

    async def _follow_channels(
        self, connection: Connection, pool: Pool, group: asyncio.TaskGroup
    ) -> None:
        """A courier for each channel as it is now; a changed one gets another."""
        rows = await connection.fetch(queries.all_channels)
        wanted = {Channel(row["name"], row["url"], row["secret"]) for row in rows}
        for channel in self._couriers.keys() - wanted:
            self._couriers.pop(channel)[1].cancel()
        for channel in wanted - self._couriers.keys():
            courier = Courier(channel, pool, self._settings, self._metrics)
            self._couriers[channel] = courier, group.create_task(courier.run())
            self._any_courier.set()

    async def _start_tests(
        self, connection: Connection, pool: Pool, group: asyncio.TaskGroup
    ) -> None:
        for row in await connection.fetch(queries.waiting_tests):
            if row["test_id"] not in self._tests:
                self._tests.add(row["test_id"])
                channel = Channel(row["channel"], row["url"], row["secret"])
                group.create_task(self._test(row["test_id"], channel, pool))

    async def _test(self, test_id: int, channel: Channel, pool: Pool) -> None:
        failure = None
        async with self._testing:
            try:
                await send(channel, trial(test_id, channel.name), self._settings)
            except DeliveryFailed as failed:
                failure = str(failed)
        with suppress(*DATABASE_ERRORS):
            await pool.execute(queries.finish_test, test_id, failure)
            self._tests.discard(test_id)


async def prune_tests(connection: Connection) -> None:
    await connection.execute(queries.prune_tests)
