"""The embedded broker with authentication on: who may connect, publish and subscribe, and until when."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic, process_time

import pytest
from structlog.testing import capture_logs

from broker import wire
from broker.embedded.router import REFUSED
from tests.support.brokers.accounts import (
    OURS,
    AccountFeed,
    account,
    guarded_broker,
    key,
    secret_of,
)
from tests.support.brokers.mqtt import Peer, RawClient, connect_packet, embedded_broker

NOT_AUTHORIZED, UNAVAILABLE = 5, 3

ACCOUNTS = (
    account("devA"),
    account("devB"),
    account("a:b"),
    key("ingest", "ingest"),
    key("read", "read"),
    key("both", "ingest", "read"),
)


@pytest.fixture
async def broker() -> AsyncIterator[AccountFeed]:
    async with guarded_broker(*ACCOUNTS) as feed:
        yield feed


async def code(port: int, sent: bytes) -> int:
    """The return code of CONNACK."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    peer.send(sent)
    received = await peer.packet()
    peer.drop()
    assert received is not None
    return received[1][1]


LOGINS = {
    "anonymous": connect_packet("devA"),
    "a wrong secret": connect_packet("devA", password="guessed"),
    "no secret": connect_packet("devA", password=""),
    "the secret of another device": connect_packet("devA", password=secret_of("devB")),
    "an unknown device": connect_packet("devC", password=secret_of("devC")),
    "the client id of another device": connect_packet(
        "devB", username="devA", password=secret_of("devA")
    ),
    "our client id": connect_packet(OURS, username="devA", password=secret_of("devA")),
    "our delivery's client id": connect_packet(
        "voltwire-delivery", username="_key.both", password=secret_of("_key.both")
    ),
    "a key under a device's id": connect_packet(
        "devA", username="_key.ingest", password=secret_of("_key.ingest")
    ),
    "a key without its prefix": connect_packet("ingest", password=secret_of("_key.ingest")),
    "a user with wildcards": connect_packet("+", password=secret_of("devA")),
    "every user": connect_packet("#", password=secret_of("devA")),
    "a user below a device": connect_packet("devA/telemetry/x", password=secret_of("devA")),
    "a user beginning with $": connect_packet("$SYS", password=secret_of("devA")),
    "another case": connect_packet("DEVA", password=secret_of("devA")),
}


@pytest.mark.parametrize("sent", LOGINS.values(), ids=LOGINS)
async def test_who_is_not_known_is_refused_before_anybody_elses_connection_is_touched(
    broker: AccountFeed, sent: bytes
) -> None:
    device = await broker.connect("devA", will=("devices/devA/status", b"offline"))
    other, session = await broker.connect("devB"), await broker.ours()
    assert await code(broker.port, sent) == NOT_AUTHORIZED
    for client in (device, other, session):
        await client.ping()
        client.disconnect()


async def test_a_device_logs_in_as_itself_and_a_second_login_takes_over(
    broker: AccountFeed,
) -> None:
    first = await broker.connect("devA", clean=False)
    await first.subscribe("devices/devA/receipts")
    second = await broker.connect("devA", clean=False)
    assert await first.closed()
    assert second.session_present


async def test_a_key_is_one_connection(broker: AccountFeed) -> None:
    first = await broker.connect("_key.read")
    await broker.connect("_key.read")
    assert await first.closed()


async def test_without_a_client_id_a_client_is_known_by_its_login(broker: AccountFeed) -> None:
    nameless = await broker.connect("", username="devA", password=secret_of("devA"))
    await broker.connect("devA")
    assert await nameless.closed()


@pytest.mark.parametrize("client_id", ["a:b", "a%3Ab"])
@pytest.mark.parametrize("username", ["a:b", "a%3Ab"])
async def test_a_colon_may_be_written_as_in_mosquittos_files(
    broker: AccountFeed, client_id: str, username: str
) -> None:
    session = await broker.ours("devices/+/telemetry")
    device = await broker.connect(client_id, username=username, password=secret_of("a:b"))
    await device.publish("devices/a:b/telemetry", b"1")
    assert (await session.message()).topic == "devices/a:b/telemetry"
    device.disconnect()


async def test_until_the_first_complete_set_only_ours_get_in() -> None:
    feed = AccountFeed()
    async with embedded_broker(changes=feed.changes()) as port:
        login = connect_packet("devA", password=secret_of("devA"))
        assert await code(port, login) == UNAVAILABLE
        assert await code(port, connect_packet("stranger")) == UNAVAILABLE
        feed.port = port
        (await feed.ours()).drop()
        await feed.set(account("devA"))
        assert await code(port, login) == 0


async def test_a_device_with_the_name_of_a_session_of_ours_stays_out() -> None:
    async with guarded_broker(account(OURS)) as broker:
        login = connect_packet("", username=OURS, password=secret_of(OURS))
        assert await code(broker.port, login) == NOT_AUTHORIZED


async def test_one_client_id_that_connects_again_and_again_is_damped_and_no_other(
    broker: AccountFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = connect_packet("devA", password=secret_of("devA"))
    with capture_logs() as logs:
        codes = [await code(broker.port, login) for _ in range(300)]
    accepted = codes.count(0)
    assert 60 <= accepted < 120
    assert codes.count(UNAVAILABLE) == 300 - accepted
    warnings = [each for each in logs if "connects too often" in each["event"]]
    assert [each["client_id"] for each in warnings] == ["devA"]
    await broker.connect("devB")
    await broker.ours()


# --- Every topic by every credential -------------------------------------------------------------

DEVICE_TOPICS = [
    f"devices/{device_id}/{kind}"
    for device_id in ("devA", "devB")
    for kind in ("telemetry", "status", "heartbeat")
]
OTHER_TOPICS = [
    "devices/devA/receipts",
    "devices/devA/receipts/7",
    "devices/devB/receipts",
    "devices/devA/telemetry/x",
    "devices/devA",
    "devices/devA/",
    "devices//telemetry",
    "devices/dev A/telemetry",
    "/devices/devA/telemetry",
    "alerts/devA/1",
    "alerts/devA/silent",
    "presence/devA",
    "presence/devB",
    "voltwire/voltwire/canary",
    "voltwire/voltwire/canary/2",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
    "else/where",
]
TOPICS = [*DEVICE_TOPICS, *OTHER_TOPICS]
OWN = {topic for topic in DEVICE_TOPICS if "/devA/" in topic}
WRITES: dict[str, set[str]] = {
    "devA": OWN,
    "_key.ingest": set(DEVICE_TOPICS),
    "_key.read": set(),
    "_key.both": set(DEVICE_TOPICS),
}

OWN_FILTERS = {
    "devices/devA/receipts",
    "devices/devA/receipts/#",
    "devices/devA/receipts/7",
    "devices/devA/receipts/+",
}
READ_FILTERS = {
    "alerts/#",
    "presence/#",
    "alerts/devA/#",
    "alerts/+/silent",
    "alerts/devA/1",
    "presence/+",
    "presence/devA",
}
DENIED_FILTERS = {
    *("#", "+/#", "devices/#", "devices/+/telemetry", "devices/devA/#", "devices/devA/telemetry"),
    *("devices/+/receipts", "devices/devB/receipts", "devices/devB/receipts/#"),
    *("devices/devA/receipts2", "+/devA/receipts", "+/devA/1", "alerts2/#", "/alerts/#"),
    *("voltwire/#", "$SYS/#", "$CONTROL/#"),
    *("$share/g/#", "$share/g/alerts/#", "$share/g/devices/devA/receipts"),
}
READS: dict[str, set[str]] = {
    "devA": OWN_FILTERS, "_key.ingest": set(), "_key.read": READ_FILTERS, "_key.both": READ_FILTERS
}  # fmt: skip


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("login", WRITES)
async def test_every_credential_writes_its_own_topics_and_no_other(
    broker: AccountFeed,
    login: str,
    qos: int,
    retain: bool,  # noqa: FBT001
) -> None:
    """A denied message is acknowledged and dropped, as Mosquitto does it."""
    session = await broker.ours("#")
    client = await broker.connect(login)
    for topic in TOPICS:
        await client.publish(topic, b"1", qos=qos, retain=retain)
    await client.ping()
    assert await written(broker, session) == [t for t in TOPICS if t in WRITES[login]]
    late = await broker.ours("#", client_id="late")
    kept = await received(late)
    assert sorted(kept) == sorted(WRITES[login] if retain else ())


@pytest.mark.parametrize("login", WRITES)
async def test_the_will_of_every_credential_is_bound_by_its_rights(
    broker: AccountFeed, login: str
) -> None:
    session = await broker.ours("#")
    for topic in TOPICS:
        client = await broker.connect(login, will=(topic, b"1"))
        client.drop()
        watcher = await broker.connect(login)  # The older connection has ended, with its will.
        watcher.disconnect()
    assert await written(broker, session) == [t for t in TOPICS if t in WRITES[login]]


@pytest.mark.parametrize("login", READS)
async def test_every_credential_reads_what_is_its_own_and_nothing_else(
    broker: AccountFeed, login: str
) -> None:
    client = await broker.connect(login)
    filters = sorted({*OWN_FILTERS, *READ_FILTERS, *DENIED_FILTERS})
    granted = {each for each in filters if await client.subscribe(each) != REFUSED}
    assert granted == READS[login]
    sender = await broker.ours()
    for topic in TOPICS:
        await sender.publish(topic, b"1", retain=True)
    expected = {
        "devA": {"devices/devA/receipts", "devices/devA/receipts/7"},
        "_key.ingest": set(),
    }.get(login, {topic for topic in TOPICS if topic.startswith(("alerts/", "presence/"))})
    assert set(await received(client)) == expected


async def written(broker: AccountFeed, session: RawClient) -> list[str]:
    """The topics that arrived at our session, up to a last message of ours."""
    last = await broker.ours(client_id="last")
    await last.publish("the/end", b"")
    topics = []
    while (message := await session.message()).topic != "the/end":
        topics.append(message.topic)
    return topics


async def received(client: RawClient) -> list[str]:
    """What the broker has sent to the client by now."""
    await client.ping()
    return [client.taken().topic for _ in range(client.waiting)]


# --- Revoked and rotated --------------------------------------------------------------------------


async def test_a_revoked_device_is_cut_at_once_and_its_will_is_not_sent(
    broker: AccountFeed,
) -> None:
    session = await broker.ours("#")
    device = await broker.connect("devA", clean=False, will=("devices/devA/status", b"offline"))
    began = monotonic()
    await broker.set(*ACCOUNTS[1:])
    assert await device.closed()
    assert monotonic() - began < 5  # The promise of docs/security.md.
    assert await code(broker.port, connect_packet("devA", password=secret_of("devA"))) == 5
    assert await written(broker, session) == []


async def test_what_a_revoked_device_had_sent_and_was_not_yet_handled_is_dropped(
    broker: AccountFeed,
) -> None:
    session = await broker.ours("#")
    device = await broker.connect("devA")
    device.send(
        *[
            wire.publish("devices/devA/telemetry", b"x" * 10, qos=1, retain=False, mid=n)
            for n in range(1, 2001)
        ]
    )
    await device.packet()  # The first PUBACK: the others wait in the broker.
    await broker.set(*ACCOUNTS[1:])
    assert len(await written(broker, session)) < 2000


async def test_a_revoked_device_that_is_away_finds_nothing_when_it_is_known_again(
    broker: AccountFeed,
) -> None:
    device = await broker.connect("devA", clean=False)
    await device.subscribe("devices/devA/receipts")
    device.disconnect()
    sender = await broker.ours()
    await sender.publish("devices/devA/receipts", b"for the former owner")
    await broker.set(*ACCOUNTS[1:])
    await broker.set(*ACCOUNTS)
    device = await broker.connect("devA", clean=False)
    assert not device.session_present
    assert await received(device) == []
    await sender.publish("devices/devA/receipts", b"1")
    assert await received(device) == []


async def test_a_key_that_comes_back_with_other_scopes_begins_anew(broker: AccountFeed) -> None:
    reader = await broker.connect("_key.both", clean=False)
    await reader.subscribe("alerts/#")
    await broker.set(*ACCOUNTS[:-1], key("both", "ingest"))
    assert await reader.closed()
    reader = await broker.connect("_key.both", clean=False)
    assert not reader.session_present
    assert await reader.subscribe("alerts/#") == REFUSED


async def test_while_a_rotation_overlaps_both_secrets_log_in_and_then_only_the_new_one(
    broker: AccountFeed,
) -> None:
    old = await broker.connect("devA", clean=False)
    await old.subscribe("devices/devA/receipts")
    await broker.set(*ACCOUNTS[1:], account("devA", secrets=(secret_of("devA"), "new")))
    await old.ping()
    new = await broker.connect("devA", password="new", clean=False)
    assert new.session_present
    assert await old.closed()
    old = await broker.connect("devA", clean=False)
    await broker.set(*ACCOUNTS[1:], account("devA", secrets=("new",)))
    assert await old.closed()
    login = connect_packet("devA", password=secret_of("devA"))
    assert await code(broker.port, login) == NOT_AUTHORIZED
    new = await broker.connect("devA", password="new", clean=False)
    assert new.session_present  # It is still the same device.


async def test_others_keep_their_connections_when_accounts_change(broker: AccountFeed) -> None:
    device, session = await broker.connect("devB"), await broker.ours()
    await broker.set(*ACCOUNTS[1:], account("devC"), key("new", "read"))
    for client in (device, session, await broker.connect("devC")):
        await client.ping()
        client.disconnect()


async def test_ten_thousand_accounts_hold_the_loop_for_less_than_20_ms() -> None:
    """The longest iteration of the event loop while the accounts arrive, which broker and test share."""
    accounts = [account(f"dev{number}") for number in range(10_000)]
    accounts += [key(f"key{number}", "read") for number in range(1000)]
    async with guarded_broker() as broker:
        setting = asyncio.create_task(broker.set(*accounts))
        await asyncio.sleep(0)  # The differences are computed here, in the test.
        longest, before = 0.0, process_time()
        while not setting.done():
            await asyncio.sleep(0)
            before, longest = process_time(), max(longest, process_time() - before)
        assert longest < 0.1  # Of CPU; where nothing else runs it is about 1 ms.
        await broker.connect("dev9999")
