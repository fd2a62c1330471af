"""Retire the sessions of departed members: empty them, end them, remove their rows.

A broker keeps queueing for a session whose client has left (Mosquitto also for a shared subscription).
So when fewer members start than before, the first one acts for each missing one:

1. take the lease of the client id, so that nobody else uses it;
2. connect with it and end its subscriptions, so that the broker queues nothing new;
3. store and acknowledge the queued messages, until a canary sent after step 2 has come back;
4. end the session, then remove the row of the member.

After a crash in between the row is still in the table, and the next start begins again.
"""

import asyncio
from uuid import uuid4

import structlog

from broker.client.session import end_session
from ingestor.mqtt.lease import Lease
from ingestor.mqtt.member import Member
from ingestor.mqtt.membership import Membership
from ingestor.mqtt.receiver import Receiver
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings

log = structlog.get_logger()


async def retire_departed(
    settings: Settings, present: Member, health: Health, metrics: Metrics
) -> None:
    """Call it only once the present members are subscribed, so that no message finds no subscriber."""
    membership = Membership(settings.dsn, present.name)
    for member, filters in await membership.departed(present):
        log.info("Emptying the session of a departed member.", client_id=member.client_id)
        lease = Lease(settings.dsn, member.client_id, Health(()))
        async with asyncio.TaskGroup() as group:
            leasing = group.create_task(lease.run())
            await _empty(settings, member, filters, lease, health, metrics)
            await lease.confirmed()
            await end_session(settings.mqtt, member.client_id)
            await membership.remove(member)
            leasing.cancel()
        log.info("The session of a departed member has ended.", client_id=member.client_id)


async def _empty(
    settings: Settings,
    member: Member,
    filters: set[str],
    lease: Lease,
    health: Health,
    metrics: Metrics,
) -> None:
    """Return when everything that the broker queued for the session is stored and acknowledged.

    The last message is a canary on a topic of its own: the queue of a session keeps its order.
    """
    last = f"{member.canary}/{uuid4().hex}"

    async def find_stale_filters() -> set[str]:
        return filters

    receiver = Receiver(
        settings,
        member,
        lease,
        health,
        metrics,
        subscriptions=(last,),
        canary_topic=last,
        canary_health=Health(()),  # The checks are about the present members only.
        find_stale_filters=find_stale_filters,
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(receiver.run(stop))
        await receiver.subscribed.wait()
        await receiver.canary.round_trip(receiver.session)
        stop.set()
