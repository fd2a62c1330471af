"""Mosquitto with authentication on: who may connect, publish and subscribe, and until when."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest

from broker import topics, wire
from broker.mosquitto.files import ChangedFiles
from ingestor.mqtt.member import share_group
from schema.access.broker_logins import BrokerLogin
from schema.access.secrets import CredentialKind, broker_hash
from tests.integration.broker.test_embedded_broker_access import (
    DENIED_FILTERS,
    OWN_FILTERS,
    READ_FILTERS,
    TOPICS,
    WRITES,
)
from tests.support.brokers.guarded_mosquitto import (
    GuardedMosquitto,
    device,
    guarded_mosquitto,
    key,
    secret_of,
)
from tests.support.brokers.mosquitto import require_mosquitto
from tests.support.brokers.mqtt import PASSWORD, RawClient

pytestmark = pytest.mark.slow
ACCEPTED, NOT_AUTHORIZED = 0, 5
OBSERVER = "observer"  # Of the test alone: it sees everything that was let through.
LOGINS = (
    device(OBSERVER),
    device("devA"),
    device("devB"),
    device("a:b"),
    key("ingest", "ingest"),
    key("read", "read"),
    key("both", "ingest", "read"),
    key("admin", "admin"),
    key("metrics", "metrics"),
)
# A wildcard of an access list also matches levels that no device can have; the ingestor drops them.
ODD = {"devices//telemetry", "devices/dev A/telemetry"}
CANARIES = {"voltwire/voltwire/canary", "voltwire/voltwire/canary/2"}
RECEIPTS = {topic for topic in TOPICS if topic.startswith("devices/") and "/receipts" in topic}
OUTGOING = {topic for topic in TOPICS if topic.startswith(("alerts/", "presence/"))}
BY_DEVICES = WRITES["_key.ingest"] | ODD
MAY_WRITE = {
    **{
        login: allowed | (ODD if login in {"_key.ingest", "_key.both"} else set())
        for login, allowed in WRITES.items()
    },
    "a%3Ab": set(),
    "voltwire-ingest": CANARIES | RECEIPTS,
    "voltwire-ingest-2": CANARIES | RECEIPTS,
    "voltwire-delivery": OUTGOING,
}
MAY_READ = {
    "devA": {"devices/devA/receipts", "devices/devA/receipts/7"},
    "a%3Ab": set(),
    "_key.ingest": set(),
    "_key.read": OUTGOING,
    "_key.both": OUTGOING,
    "voltwire-ingest": BY_DEVICES | CANARIES,
    "voltwire-ingest-2": {t for t in BY_DEVICES if t.endswith("/telemetry")} | CANARIES,
    "voltwire-delivery": set(),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _mosquitto_is_installed() -> None:
    require_mosquitto()


@pytest.fixture
async def guarded() -> AsyncIterator[GuardedMosquitto]:
    async with guarded_mosquitto(LOGINS) as guarded:
        access_list = guarded.broker.files / "acl_file"
        access_list.write_text(f"user {OBSERVER}\ntopic readwrite #\n{access_list.read_text()}")
        guarded.broker.reload()
        yield guarded


async def connect(guarded: GuardedMosquitto, login: str, **options: object) -> RawClient:
    if login.startswith("voltwire-"):
        options = {"password": PASSWORD, **options}
    return await guarded.connect(login, **options)


async def publish(guarded: GuardedMosquitto, login: str, topic: str, **options: Any) -> None:
    client = await connect(guarded, login)
    await client.try_to_publish(topic, **options)
    client.drop()


async def until_accepted(guarded: GuardedMosquitto, login: str) -> None:
    async with asyncio.timeout(60):
        code: int | None = NOT_AUTHORIZED
        while code != ACCEPTED:
            code = await guarded.code(login, password=secret_of(login))


async def seen(guarded: GuardedMosquitto, observer: RawClient) -> list[str]:
    """The topics that reached the observer, up to a last message of its own."""
    await observer.publish("the/end", b"")
    found = []
    while (message := await observer.message()).topic != "the/end":
        found.append(message.topic)
    return found


async def received(client: RawClient) -> set[str]:
    await client.ping()
    return {client.taken().topic for _ in range(client.waiting)}


async def test_strangers_are_refused(guarded: GuardedMosquitto) -> None:
    refused = {
        "anonymous": await guarded.code("x"),
        "a wrong secret": await guarded.code("devA", password="guessed"),
        "the secret of another": await guarded.code("devA", password=secret_of("devB")),
        "an unknown device": await guarded.code("devC", password=secret_of("devC")),
        "a plus": await guarded.code("+", password=secret_of("devA")),
        "a hash": await guarded.code("#", password=secret_of("devA")),
        "levels": await guarded.code("devA/telemetry/x", password=secret_of("devA")),
        "our own without our password": await guarded.code("voltwire-ingest", password="guessed"),
        "a key without the prefix": await guarded.code("read", password=secret_of("_key.read")),
        "an admin key": await guarded.code("_key.admin", password=secret_of("_key.admin")),
        "a metrics key": await guarded.code("_key.metrics", password=secret_of("_key.metrics")),
        "another case": await guarded.code("DEVA", password=secret_of("devA")),
    }
    assert {who for who, code in refused.items() if code != NOT_AUTHORIZED} == set()


@pytest.mark.parametrize("taken", ["devB", "voltwire-ingest", "_key.read"])
async def test_a_client_id_is_that_of_its_user_whatever_it_says(
    guarded: GuardedMosquitto, taken: str
) -> None:
    victim = await connect(guarded, taken)
    thief = await guarded.connect(taken, username="devA", password=secret_of("devA"))
    await victim.ping()
    second = await guarded.connect("devA")
    assert await thief.closed()  # It was devA all the time.
    await second.ping()


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("login", MAY_WRITE)
async def test_every_credential_writes_its_own_topics_and_no_other(
    guarded: GuardedMosquitto,
    login: str,
    retain: bool,  # noqa: FBT001
) -> None:
    observer = await guarded.connect(OBSERVER)
    await observer.subscribe("#")
    for qos in (0, 1):
        for topic in TOPICS:
            await publish(guarded, login, topic, qos=qos, retain=retain)
    allowed = [topic for topic in TOPICS if topic in MAY_WRITE[login]]
    assert await seen(guarded, observer) == allowed * 2
    late = await guarded.connect(OBSERVER)
    await late.subscribe("#")
    assert await received(late) == (set(allowed) if retain else set())


@pytest.mark.parametrize("login", MAY_WRITE)
async def test_the_will_of_every_credential_is_bound_by_its_rights(
    guarded: GuardedMosquitto, login: str
) -> None:
    observer = await guarded.connect(OBSERVER)
    await observer.subscribe("#")
    for topic in TOPICS:
        (await connect(guarded, login, will=(topic, b"1"))).drop()
        again = await connect(guarded, login)  # The older connection has ended, with its will.
        again.disconnect()
    assert await seen(guarded, observer) == [t for t in TOPICS if t in MAY_WRITE[login]]


@pytest.mark.parametrize("login", MAY_READ)
async def test_every_credential_receives_what_is_its_own_and_nothing_else(
    guarded: GuardedMosquitto, login: str
) -> None:
    """A subscription is granted whatever its filter is; an access list is asked at each delivery."""
    client = await connect(guarded, login)
    for each in sorted({*OWN_FILTERS, *READ_FILTERS, *DENIED_FILTERS}):
        await client.subscribe(each)
    for topic in TOPICS:
        await publish(guarded, OBSERVER, topic, qos=1, retain=True)
    assert await received(client) - {topics.DROPPED} == MAY_READ[login]


async def test_a_device_with_a_colon_has_its_own_topics(guarded: GuardedMosquitto) -> None:
    session = await guarded.ours("devices/+/telemetry", "devices/+/status")
    client = await guarded.connect("a:b", username="a%3Ab", will=("devices/a:b/status", b"offline"))
    await client.subscribe("#")
    await client.publish("devices/a:b/telemetry", b"1")
    await session.publish("devices/a:b/receipts", b"1")
    assert await received(client) == {"devices/a:b/receipts"}
    client.drop()
    assert [(await session.message()).topic for _ in range(2)] == [
        "devices/a:b/telemetry",
        "devices/a:b/status",
    ]


async def test_members_share_the_telemetry_and_each_has_its_canary(
    guarded: GuardedMosquitto,
) -> None:
    shared = topics.shared("voltwire", "devices/+/telemetry")
    members = [
        await guarded.ours(shared, client_id=f"voltwire-ingest{n}") for n in ("", "-2", "-9")
    ]
    for number, member in enumerate(members):
        canary = topics.canary("voltwire", number + 1)
        await member.subscribe(topics.shared("voltwire", canary))
        await member.publish(canary, b"")
        assert (await member.message()).topic == canary
    sender = await guarded.connect("devA")
    for _ in range(30):
        await sender.publish("devices/devA/telemetry", b"1")
    for member in members:
        await member.ping()
    assert sum(member.waiting for member in members) == 30


@pytest.mark.parametrize("group", ["voltwire", "voltwire-0", "+"])
async def test_a_device_takes_nothing_from_the_members(
    guarded: GuardedMosquitto, group: str
) -> None:
    """In a group of the members it would: Mosquitto chooses one of the group, then denies it the message."""
    telemetry = "devices/+/telemetry"
    ours = topics.shared(share_group("voltwire", PASSWORD), telemetry)
    members = [await guarded.ours(ours, client_id=f"voltwire-ingest{n}") for n in ("", "-2")]
    thief, sender = await guarded.connect("devA"), await guarded.connect("devB")
    await thief.subscribe(topics.shared(group, telemetry))
    for _ in range(20):
        await sender.publish("devices/devB/telemetry", b"1")
    for member in members:
        await member.ping()
    assert sum(member.waiting for member in members) == 20


async def test_the_first_member_alone_reads_what_the_broker_dropped() -> None:
    async with guarded_mosquitto(LOGINS) as guarded:
        first = await guarded.ours(topics.DROPPED, "$SYS/#")
        second = await guarded.ours(topics.DROPPED, "$SYS/#", client_id="voltwire-ingest-2")
        device_client = await guarded.connect("devA")
        await device_client.subscribe("$SYS/#")
        assert (await first.message()).topic == topics.DROPPED
        assert await received(second) == await received(device_client) == set()


async def test_a_revoked_device_is_cut_by_a_reload_and_its_neighbours_are_not(
    guarded: GuardedMosquitto,
) -> None:
    session = await guarded.ours("devices/+/status")
    gone = await guarded.connect("devA", will=("devices/devA/status", b"offline"))
    stays = await guarded.connect("devB")
    reader = await guarded.connect("_key.read")
    guarded.reload(*(login for login in LOGINS if login.name != "devA"))
    assert await gone.closed()
    assert await guarded.code("devA", password=secret_of("devA")) == NOT_AUTHORIZED
    for client in (session, stays, reader):
        await client.ping()
    await stays.publish("devices/devB/status", b"online")
    assert (await session.message()).topic == "devices/devB/status"  # And no will of devA.


async def test_a_revoked_device_with_a_session_on_the_broker_does_not_get_in(
    guarded: GuardedMosquitto,
) -> None:
    away = await guarded.connect("devA", clean=False)
    await away.subscribe("devices/devA/receipts")
    away.disconnect()
    session = await guarded.ours()
    await session.publish("devices/devA/receipts", b"1")
    guarded.reload(*(login for login in LOGINS if login.name != "devA"))
    await session.ping()
    code = await guarded.code("devA", password=secret_of("devA"), clean=False)
    assert code == NOT_AUTHORIZED


async def test_a_new_device_gets_in_after_a_reload(guarded: GuardedMosquitto) -> None:
    guarded.reload(*LOGINS, device("new"))
    await until_accepted(guarded, "new")


async def test_a_key_that_loses_a_scope_loses_its_rights_while_it_is_connected(
    guarded: GuardedMosquitto,
) -> None:
    session = await guarded.ours("devices/+/telemetry")
    client = await guarded.connect("_key.both")
    await client.publish("devices/devB/telemetry", b"1")
    assert (await session.message()).topic == "devices/devB/telemetry"
    guarded.reload(*(each for each in LOGINS if each.name != "both"), key("both", "read"))
    await session.ping()
    client.send(wire.publish("devices/devB/telemetry", b"2", qos=0, retain=False, mid=0))
    other = await guarded.connect("devA")
    await other.publish("devices/devA/telemetry", b"3")
    assert (await session.message()).payload == b"3"


async def test_messages_of_qos_2_that_are_never_released_end_the_connection(
    guarded: GuardedMosquitto,
) -> None:
    """Mosquitto holds as many as its window allows: 5,000 of a client."""
    before = guarded.broker.memory_bytes
    attacker, neighbour = await guarded.connect("devA"), await guarded.connect("devB")
    payload = b"x" * 1000
    for mid in range(1, 12_001):
        packet = wire.publish("devices/devA/telemetry", payload, qos=2, retain=False, mid=mid)
        attacker.send(packet)
    assert await attacker.closed()
    await neighbour.ping()
    assert guarded.broker.memory_bytes - before < 40 * 1024 * 1024


async def test_a_reload_with_ten_thousand_logins_keeps_neighbours_waiting_under_half_a_second() -> (
    None
):
    """500 of them are connected: Mosquitto checks each one again."""
    hashed = broker_hash("one for all")
    fleet = [BrokerLogin(CredentialKind.DEVICE, f"dev{n}", hash=hashed) for n in range(10_000)]
    async with guarded_mosquitto(fleet) as guarded:
        clients = [
            await guarded.connect(f"dev{number}", password="one for all") for number in range(500)
        ]
        waits = []
        for _ in range(5):
            began = monotonic()
            guarded.broker.reload()
            await clients[0].ping()
            waits.append(monotonic() - began)
        assert min(waits) < 0.5  # A busy machine delays some; alone it is 0.05 s.
        assert guarded.write(*fleet[1:]) == ChangedFiles(listeners=False, logins=True)
