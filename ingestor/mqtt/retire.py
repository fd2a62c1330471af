"""The sessions of members that are no more: emptied, ended, forgotten.

A broker goes on collecting for a session whose client went away (Mosquitto also for one of a shared
subscription). So when fewer members start than before, the first one acts for those that are missing:

1. take the lease of the client id, so that nobody else uses it;
2. connect with it and end its subscriptions: from now on nothing new is collected;
3. store and acknowledge what is there, until a message sent after step 2 has come back;
4. end the session, then forget it.

Whoever dies in between leaves the row in the table, and the next start begins again.
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


async def retire_former(
    settings: Settings, present: Member, health: Health, metrics: Metrics
) -> None:
    """Call it once the present members are subscribed: a message must find one of the two."""
    roster = Membership(settings.dsn, present.name)
    for member, filters in await roster.former(present):
        log.info("The session of a former member is emptied.", client_id=member.client_id)
        lease = Lease(settings.dsn, member.client_id, Health(()))
        async with asyncio.TaskGroup() as group:
            leasing = group.create_task(lease.run())
            await _empty(settings, member, filters, lease, health, metrics)
            await lease.confirmed()
            await end_session(settings.mqtt, member.client_id)
            await roster.forget(member)
            leasing.cancel()
        log.info("The session of a former member is gone.", client_id=member.client_id)


async def _empty(
    settings: Settings,
    member: Member,
    filters: set[str],
    lease: Lease,
    health: Health,
    metrics: Metrics,
) -> None:
    """Return when everything that the session held is stored and acknowledged.

    The last message is one of ours, on a topic of its own: a queue keeps its order.
    """
    last = f"{member.canary}/{uuid4().hex}"

    async def prepare() -> set[str]:
        return filters

    receiver = Receiver(
        settings,
        member,
        lease,
        health,
        metrics,
        subscriptions=(last,),
        canary=last,
        hearing_health=Health(()),  # Whether the present ones hear is another matter.
        prepare=prepare,
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(receiver.run(stop))
        await receiver.subscribed.wait()
        await receiver.hearing.once(receiver.session)
        stop.set()
