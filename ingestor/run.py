"""The MQTT door as a role: start, receive until told to stop, flush, acknowledge, leave."""

import asyncio

from ingestor.mqtt.lease import Lease
from ingestor.mqtt.member import Member
from ingestor.mqtt.membership import Membership
from ingestor.mqtt.receiver import Receiver
from ingestor.mqtt.retire import retire_former
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.signals import unless_stopped
from schema.migrate import until_migrated


async def run(
    settings: Settings,
    stop: asyncio.Event,
    health: Health,
    metrics: Metrics,
    member: Member | None = None,
) -> None:
    """Receive, store and acknowledge until `stop` is set, as this member; without one, alone."""
    member = member or Member(settings.instance)
    lease = Lease(settings.dsn, member.client_id, health)
    roster = Membership(settings.dsn, member.name)

    async def prepare() -> set[str]:
        return await roster.remember(member) - set(member.subscriptions)

    receiver = Receiver(
        settings,
        member,
        lease,
        health,
        metrics,
        subscriptions=member.subscriptions,
        optional_subscriptions=member.optional_subscriptions,
        canary=member.canary,
        hearing_health=health,
        prepare=prepare,
    )

    async def retire() -> None:
        await receiver.subscribed.wait()
        await retire_former(settings, member, health, metrics)

    if not await unless_stopped(stop, until_migrated(settings.dsn, health)):
        return
    async with asyncio.TaskGroup() as group:
        helpers = [
            group.create_task(work)
            for work in (lease.run(), receiver.hearing.listen(receiver.session))
        ]
        if member.number == 1:
            helpers.append(group.create_task(retire()))
        await receiver.run(stop)
        for helper in helpers:
            helper.cancel()
