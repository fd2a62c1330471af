"""The MQTT door as a role: start, receive until `stop` is set, flush, acknowledge, disconnect."""

import asyncio

from ingestor.mqtt.lease import Lease
from ingestor.mqtt.member import Member
from ingestor.mqtt.membership import Membership
from ingestor.mqtt.receiver import Receiver
from ingestor.mqtt.retire import retire_departed
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
    """Receive, store and acknowledge until `stop` is set. Without `member` the ingestor is the only one."""
    member = member or Member(settings.instance)
    lease = Lease(settings.dsn, member.client_id, health)
    membership = Membership(settings.dsn, member.name)

    async def find_stale_filters() -> set[str]:
        return await membership.register(member) - set(member.subscriptions)

    receiver = Receiver(
        settings,
        member,
        lease,
        health,
        metrics,
        subscriptions=member.subscriptions,
        optional_subscriptions=member.optional_subscriptions,
        canary_topic=member.canary,
        canary_health=health,
        find_stale_filters=find_stale_filters,
    )

    async def retire() -> None:
        await receiver.subscribed.wait()
        await retire_departed(settings, member, health, metrics)

    if not await unless_stopped(stop, until_migrated(settings.dsn, health)):
        return
    async with asyncio.TaskGroup() as group:
        helpers = [
            group.create_task(work) for work in (lease.run(), receiver.canary.run(receiver.session))
        ]
        if member.number == 1:
            helpers.append(group.create_task(retire()))
        await receiver.run(stop)
        for helper in helpers:
            helper.cancel()
