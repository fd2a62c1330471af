"""With HA_DISCOVERY a key that reads is Home Assistant's: what it may do at both brokers, and nobody else."""

from collections.abc import AsyncIterator

import pytest

from broker import topics
from broker.embedded.router import REFUSED
from tests.support.brokers import accounts
from tests.support.brokers.accounts import AccountFeed, guarded_broker
from tests.support.brokers.guarded_mosquitto import GuardedMosquitto, device, guarded_mosquitto, key
from tests.support.brokers.mosquitto import require_mosquitto
from tests.support.brokers.mqtt import PASSWORD, RawClient

pytestmark = pytest.mark.slow

CONFIG = topics.discovery("voltwire", "devA")
TELEMETRY = "devices/devA/telemetry"
# As Home Assistant subscribes: to the topics of discovery, and to those that the messages name.
SUBSCRIBED = (
    "homeassistant/+/+/config",
    "homeassistant/+/+/+/config",
    "homeassistant/status",
    TELEMETRY,
    "presence/devA",
)
WANTED = ("#", "devices/#", "devices/devA/status", "devices/devA/receipts")

Guarded = AccountFeed | GuardedMosquitto


@pytest.fixture(params=["embedded", "mosquitto"])
async def guarded(request: pytest.FixtureRequest) -> AsyncIterator[Guarded]:
    if request.param == "embedded":
        known = (accounts.account("devA"), accounts.key("ha", "read"))
        async with guarded_broker(*known, ha_discovery=True) as embedded:
            yield embedded
        return
    require_mosquitto()
    logins = (device("devA"), key("ha", "read"))
    async with guarded_mosquitto(logins, ha_discovery=True) as mosquitto:
        yield mosquitto


async def received(client: RawClient) -> list[tuple[str, bytes]]:
    await client.ping()
    messages = [client.taken() for _ in range(client.waiting)]
    return [(message.topic, message.payload) for message in messages]


async def test_home_assistant_reads_discovery_telemetry_and_presence_and_writes_nothing(
    guarded: Guarded,
) -> None:
    home_assistant = await guarded.connect("_key.ha")
    assert all([await home_assistant.subscribe(each) != REFUSED for each in SUBSCRIBED])
    for each in WANTED:
        await home_assistant.subscribe(each)
    delivery = await guarded.connect("voltwire-delivery", password=PASSWORD)
    await delivery.publish(CONFIG, b"{}", retain=True)
    await delivery.publish("presence/devA", b"{}", retain=True)
    sender = await guarded.connect("devA")
    await sender.publish(TELEMETRY, b"{}")
    await sender.publish("devices/devA/status", b"online")
    for login in ("devA", "_key.ha"):
        other = await guarded.connect(login)
        for topic in (CONFIG, "devices/_key.ha/telemetry", "homeassistant/status"):
            await other.try_to_publish(topic, retain=True)
        other.drop()
    again = await guarded.connect("_key.ha")
    for each in SUBSCRIBED:
        await again.subscribe(each)
    assert await received(again) == [(CONFIG, b"{}"), ("presence/devA", b"{}")]


async def test_telemetry_reaches_home_assistant_and_statuses_do_not(guarded: Guarded) -> None:
    home_assistant = await guarded.connect("_key.ha")
    for each in (*SUBSCRIBED, *WANTED):
        await home_assistant.subscribe(each)
    sender = await guarded.connect("devA")
    await sender.publish("devices/devA/status", b"online")
    await sender.publish(TELEMETRY, b"{}")
    assert await received(home_assistant) == [(TELEMETRY, b"{}")]
