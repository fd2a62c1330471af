"""One channel: its notifications in order, each at least once, retried for a day.

The position in the feed moves after a delivery, so a crash between the two repeats a message with its id.
More than 20 notifications within 10 s become one message.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import asyncpg
import msgspec
import structlog

from runtime.metrics import Metrics
from runtime.settings import Settings
from scheduler.channels.errors import DeliveryFailed
from scheduler.channels.messages import ChannelMessage, Pending, group, single
from scheduler.channels.people import send_to_people
from scheduler.channels.webhook import send_webhook
from schema.channels.urls import is_webhook
from schema.database import DATABASE_ERRORS, Pool
from schema.feed import feed_item
from schema.queries import load_queries

SINGLES_MAX, WINDOW_S = 20, 10.0
GROUP_MAX = 10_000
FEED_ROWS_MAX = 20_000
SKIPPED_UNSAVED_MAX = 1000
RETRY_FOR_S = 24 * 3600
RETRY_FIRST_S, RETRY_S_MAX = 5.0, 600.0
POLL_S, DATABASE_RETRY_S = 30.0, 1.0

queries = load_queries("scheduler.channels", "channels.sql", {"feed_rows_max": FEED_ROWS_MAX})
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Channel:
    name: str
    url: str
    secret: str | None


async def send(channel: Channel, message: ChannelMessage, settings: Settings) -> None:
    """Raises DeliveryFailed."""
    private = settings.notify_private_addresses
    if is_webhook(channel.url):
        await send_webhook(
            channel.url, channel.secret or "", message.id, message.body, private_addresses=private
        )
    else:
        await send_to_people(channel.url, message.title, message.text, private_addresses=private)


class Courier:
    def __init__(self, channel: Channel, pool: Pool, settings: Settings, metrics: Metrics) -> None:
        self._channel, self._pool, self._settings = channel, pool, settings
        self._deliveries = metrics.channel_deliveries
        self._woken = asyncio.Event()
        self._sent_at: deque[float] = deque(maxlen=SINGLES_MAX)
        self._read_to = 0  # There is nothing for this channel up to this number.

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._woken.clear()
            try:
                while await self._deliver_next():
                    pass
            except DATABASE_ERRORS as error:
                log.warning(
                    "A channel cannot read the database; retrying.",
                    channel=self._channel.name,
                    error=repr(error),
                )
                await asyncio.sleep(DATABASE_RETRY_S)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._woken.wait()

    async def _deliver_next(self) -> bool:
        """Whether there may be more to deliver."""
        position = await self._pool.fetchrow(queries.position, self._channel.name)
        if position is None:
            return False  # Just deleted.
        await asyncio.sleep(max(position["next_attempt_in_s"] or 0, 0))
        after = max(position["delivered_id"], self._read_to)
        end = await self._pool.fetchval(queries.feed_part_end, after)
        if end is None:
            return False
        pending = await self._pending(after, end)
        if not pending:
            await self._skip(position["delivered_id"], end)
            return True
        if position["attempts"] and pending[0].age_s > RETRY_FOR_S:
            await self._give_up([each for each in pending if each.age_s > RETRY_FOR_S], None)
            return True
        batch = await self._next_batch(pending)
        if batch:
            await self._deliver(batch, position["attempts"])
        return True

    async def _pending(self, after: int, end: int) -> list[Pending]:
        profile = self._settings.default_profile
        rows = await self._pool.fetch(
            queries.pending, self._channel.name, after, profile, GROUP_MAX, end
        )
        return [_pending(row) for row in rows]

    async def _skip(self, delivered_id: int, end: int) -> None:
        """Go past notifications for others; now and then the position is saved."""
        self._read_to = end
        if end - delivered_id > SKIPPED_UNSAVED_MAX:
            await self._pool.execute(queries.save_skipped, self._channel.name, end)

    async def _next_batch(self, pending: Sequence[Pending]) -> Sequence[Pending]:
        """The first one, or all of them if they are many; none after a wait, in which more may have come."""
        now = monotonic()
        recent = [at for at in self._sent_at if now - at < WINDOW_S]
        if len(recent) + len(pending) <= SINGLES_MAX:
            return pending[:1]
        if recent:
            await asyncio.sleep(recent[0] + WINDOW_S - now)
            self._sent_at.clear()
            return ()
        return pending

    async def _deliver(self, batch: Sequence[Pending], attempts: int) -> None:
        base_url = self._settings.public_url
        message = single(batch[0], base_url) if len(batch) == 1 else group(batch, base_url)
        try:
            await send(self._channel, message, self._settings)
        except DeliveryFailed as failed:
            await self._failed(batch, attempts, failed)
        else:
            self._deliveries.labels("delivered").inc(len(batch))
            await self._save(batch[-1].id, given_up=0, failure=None)
            # After a group the window is full: the next message comes at its end.
            self._sent_at.extend([monotonic()] * (1 if len(batch) == 1 else SINGLES_MAX))

    async def _failed(
        self, batch: Sequence[Pending], attempts: int, failed: DeliveryFailed
    ) -> None:
        log.warning(
            "A channel could not deliver.",
            channel=self._channel.name,
            reason=str(failed),
            retry=failed.retry,
        )
        if not failed.retry:
            await self._give_up(batch, str(failed))
            return
        self._deliveries.labels("failed").inc()
        delay_s = min(RETRY_FIRST_S * 2 ** min(attempts, 10), RETRY_S_MAX)
        delay_s *= random.uniform(0.8, 1.2)  # noqa: S311  # Spreads the channels of one service.
        await self._pool.execute(queries.save_failure, self._channel.name, delay_s, str(failed))

    async def _give_up(self, batch: Sequence[Pending], failure: str | None) -> None:
        log.error("Notifications were given up.", channel=self._channel.name, count=len(batch))
        self._deliveries.labels("given_up").inc(len(batch))
        await self._save(batch[-1].id, given_up=len(batch), failure=failure)

    async def _save(self, delivered_id: int, *, given_up: int, failure: str | None) -> None:
        await self._pool.execute(
            queries.save_delivered, self._channel.name, delivered_id, given_up, failure
        )


def _pending(row: asyncpg.Record) -> Pending:
    body = feed_item(row).body
    return Pending(
        row["id"], msgspec.json.decode(body), body, row["device_name"], row["unit"],
        row["opened_at"], row["age_s"],
    )  # fmt: skip
